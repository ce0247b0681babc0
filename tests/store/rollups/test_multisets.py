"""Durations as bytes are added up as if each were counted by itself."""

from __future__ import annotations

from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.store.rollups.multisets import Multiset, Spread, pack, spread

DURATIONS = st.one_of(st.integers(0, 40), st.integers(0, 1100), st.integers(0, 2**31 - 1))
COUNTS = st.dictionaries(DURATIONS, st.one_of(st.integers(1, 3), st.integers(1, 70_000)), max_size=60)


@given(st.lists(COUNTS, max_size=12))
def test_what_is_packed_adds_up(parts) -> None:
    whole, added = Counter(), Multiset()
    for part in parts:
        whole.update(part)
        added.add(pack(part))
    assert added.counts() == whole
    assert added.counts() == whole


@pytest.mark.parametrize("times", [255, 256, 257, 600])
def test_no_lane_overflows_however_many_are_added(times) -> None:
    counts = {0: 255, 1: 256, 5: 1000, 1023: 254, 7: 70_000}
    counts |= dict.fromkeys(range(8, 900), 255)
    added = Multiset()
    for _ in range(times):
        added.add(pack(counts))
    assert added.counts() == {duration: count * times for duration, count in counts.items()}


@given(st.dictionaries(st.integers(0, 2000), st.integers(1, 9), max_size=30))
def test_a_spread_is_by_nearest_rank(counts) -> None:
    every = sorted(Counter(counts).elements())
    p50, p95 = (every[ceil(len(every) * percent / 100) - 1] if every else None for percent in (50, 95))
    assert spread(counts) == Spread(len(every), sum(every) if every else None, p50, p95)
