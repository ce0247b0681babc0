"""Figures of groups of outcomes, and many such groups in one value of the store.

A group is a kind, which is the number of one combination of words (`rollup_kinds`), within a batch or whichever the
batch. Heads and durations are packed apart, since counts need only heads.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from app.store.rollups import multisets
from app.store.rollups.multisets import Multiset

SUMS = ("count", "answered", "human", "known", "attempts", "attempted")

Batch = str | None

_CELL = struct.Struct("<IIqII")


class Tally:
    """Figures of a group; outcomes whose attempts or duration are unknown have no part in their sums."""

    __slots__ = ("answered", "attempted", "attempts", "count", "durations", "human", "known")

    def __init__(self) -> None:
        self.count = self.answered = self.human = self.known = 0
        self.attempts = self.attempted = 0
        self.durations = Multiset()

    def merge(self, other: Tally) -> None:
        """But for what is told by the kind: answered, human, known."""
        self.count += other.count
        self.attempts += other.attempts
        self.attempted += other.attempted
        self.durations.merge(other.durations)


class Cell(NamedTuple):
    """One group as it was packed; its durations' bytes stand behind those of the cells before it."""

    kind: int
    total: int
    attempts: int
    attempted: int
    length: int


Groups = dict[Batch, dict[int, Tally]]


def groups() -> Groups:
    return defaultdict(lambda: defaultdict(Tally))


def pack(made: Groups) -> tuple[bytes, bytes]:
    """The heads and the durations."""
    batches = json.dumps([[batch, len(kinds)] for batch, kinds in made.items()]).encode()
    heads, durations = [], []
    for kinds in made.values():
        for kind, tally in kinds.items():
            packed = multisets.pack(tally.durations.counts())
            durations.append(packed)
            heads.append(_CELL.pack(kind, tally.count, tally.attempts, tally.attempted, len(packed)))
    return zlib.compress(b"\n".join([batches, b"".join(heads)]), 1), zlib.compress(b"".join(durations), 1)


def unpack(heads: bytes) -> Iterator[tuple[Batch, bytes]]:
    """Each batch and its cells, still packed."""
    batches, _, packed = zlib.decompress(heads).partition(b"\n")
    at = 0
    for batch, count in json.loads(batches):
        upto = at + count * _CELL.size
        yield batch, packed[at:upto]
        at = upto


def unpack_cells(packed: bytes) -> Any:
    """Plain tuples in the order of a cell's fields: there may be a million of them."""
    return _CELL.iter_unpack(packed)


def unpack_durations(packed: bytes) -> bytes:
    return zlib.decompress(packed)
