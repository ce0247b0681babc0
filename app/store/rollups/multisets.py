"""Durations as a multiset in bytes, quick to add up: thousands of them in milliseconds, without a number each.

Frequent small ones are lanes of 16 bits, one for each second, so that two multisets are added as two large integers;
a lane holds 255 at most when written, so that 256 can be added before one overflows. What does not fit into a lane is
pairs of duration and count, and what occurs once among few stands by itself. All are little-endian.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate
from operator import mul
from typing import NamedTuple

_HEAD = struct.Struct("<III")  # how many lanes, pairs and single durations follow
_LANES = 1024  # seconds that have a lane
_LANE_BYTES = 2
_FULL = 255
_ADDED = 256
_DENSE = 3  # a lane costs two bytes, a single duration four: worth it where every third has one


class Multiset:
    """The sum of those that are added."""

    __slots__ = ("_added", "_counts", "_lanes", "_singles")

    def __init__(self) -> None:
        self._counts: defaultdict[int, int] = defaultdict(int)  # a Counter takes longer to make than most to fill
        self._lanes = 0
        self._added = 0
        self._singles: list[bytes] = []

    def add(self, packed: bytes) -> None:
        if not packed:
            return
        lanes, pairs, singles = _HEAD.unpack_from(packed)
        at = _HEAD.size
        if lanes:
            self._lanes += int.from_bytes(packed[at : at + lanes * _LANE_BYTES], "little")
            self._added += 1
            at += lanes * _LANE_BYTES
            if self._added == _ADDED:
                self._empty_lanes()
        if pairs:
            found = struct.unpack_from(f"<{2 * pairs}I", packed, at)
            for duration, count in zip(found[::2], found[1::2], strict=True):
                self._counts[duration] += count
            at += 8 * pairs
        if singles:
            self._singles.append(packed[at:])

    def count(self, duration: int, times: int) -> None:
        self._counts[duration] += times

    def merge(self, other: Multiset) -> None:
        for duration, times in other.counts().items():
            self._counts[duration] += times

    def _empty_lanes(self) -> None:
        lanes = _numbers("H", self._lanes.to_bytes(_LANES * _LANE_BYTES, "little"))
        for duration, times in enumerate(lanes):
            if times:
                self._counts[duration] += times
        self._lanes = self._added = 0

    def counts(self) -> Mapping[int, int]:
        """How often each duration occurs."""
        if self._added:
            self._empty_lanes()
        if self._singles:
            for duration in _numbers("I", b"".join(self._singles)):
                self._counts[duration] += 1
            self._singles.clear()
        return self._counts


def pack(counts: Mapping[int, int]) -> bytes:
    """Nothing for none."""
    if not counts:
        return b""
    low = [duration for duration in counts if duration < _LANES]
    lanes = max(low, default=-1) + 1
    if len(low) * _DENSE < lanes:
        lanes = 0
    dense = array("H", bytes(lanes * _LANE_BYTES))
    pairs, singles = [], []
    for duration, count in counts.items():
        rest = count
        if duration < lanes:
            dense[duration] = min(count, _FULL)
            rest -= dense[duration]
        if rest == 1:
            singles.append(duration)
        elif rest:
            pairs += [duration, rest]
    head = _HEAD.pack(lanes, len(pairs) // 2, len(singles))
    return head + _bytes(dense) + struct.pack(f"<{len(pairs) + len(singles)}I", *pairs, *singles)


class Spread(NamedTuple):
    """What is said of durations; None where there are none."""

    timed: int
    sum: int | None
    p50: int | None
    p95: int | None


def spread(counts: Mapping[int, int]) -> Spread:
    """Percentiles are by nearest rank: the least duration that so many, or fewer, reach."""
    if not counts:
        return Spread(0, None, None, None)
    durations = sorted(counts)
    upto = list(accumulate(map(counts.__getitem__, durations)))
    p50, p95 = (durations[bisect_left(upto, -(-upto[-1] * percent // 100))] for percent in (50, 95))
    return Spread(upto[-1], sum(map(mul, counts.keys(), counts.values())), p50, p95)


def _numbers(typecode: str, packed: bytes) -> array[int]:
    numbers = array(typecode, packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _bytes(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
