"""Figures of groups of outcomes, and many such groups in one value of the store.

A group is a kind, which is the number of one combination of words (`rollup_kinds`), within a batch or whichever the
batch. Heads and durations are packed apart, since counts need only heads.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from app.store import multisets
from app.store.multisets import Multiset

SUMS = ("count", "answered", "human", "known", "attempts", "attempted")

Batch = str | None


class Tally:
    """Figures of a group; outcomes whose attempts or duration are unknown have no part in their sums."""

    __slots__ = ("answered", "attempted", "attempts", "count", "durations", "human", "known")

    def __init__(self) -> None:
        self.count = self.answered = self.human = self.known = 0
        self.attempts = self.attempted = 0
        self.durations = Multiset()

    def add(self, cell: Cell) -> None:
        """But for what the cell's kind tells."""
        self.count += cell.total
        self.attempts += cell.attempts
        self.attempted += cell.attempted
        if cell.durations:
            self.durations.add(cell.durations)


class Cell(NamedTuple):
    """One group as it was packed; `durations` is a packed multiset, empty where durations were not asked for."""

    batch: Batch
    kind: int
    total: int
    attempts: int
    attempted: int
    durations: bytes


Groups = dict[Batch, dict[int, Tally]]


def groups() -> Groups:
    return defaultdict(lambda: defaultdict(Tally))


def pack(made: Groups) -> tuple[bytes, bytes]:
    """The heads and the durations."""
    batches = json.dumps([[batch, len(kinds)] for batch, kinds in made.items()]).encode()
    numbers, durations = [], []
    for kinds in made.values():
        for kind, tally in kinds.items():
            packed = multisets.pack(tally.durations.counts())
            durations.append(packed)
            numbers += [kind, tally.count, tally.attempts, tally.attempted, len(packed)]
    heads = batches + b"\n" + struct.pack(f"<{len(numbers)}q", *numbers)
    return zlib.compress(heads, 1), zlib.compress(b"".join(durations), 1)


def unpack(heads: bytes, durations: bytes | None, wanted: Callable[[Batch], bool]) -> Iterator[Cell]:
    """The groups of the batches that are wanted."""
    batches, _, packed = zlib.decompress(heads).partition(b"\n")
    each = struct.iter_unpack("<5q", packed)
    all_durations = zlib.decompress(durations) if durations is not None else b""
    at = 0
    for batch, cells in json.loads(batches):
        is_wanted = wanted(batch)
        for _ in range(cells):
            kind, total, attempts, attempted, length = next(each)
            if is_wanted:
                yield Cell(batch, kind, total, attempts, attempted, all_durations[at : at + length])
            at += length
