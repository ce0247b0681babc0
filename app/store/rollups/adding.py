"""Adding up what roll-ups and outcomes tell, by local time and by fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from app.store.asking.holding import holds
from app.store.asking.questions import Condition
from app.store.rollups.tallies import Cell, Tally, unpack, unpack_cells, unpack_durations

_WHICHEVER = (0, 0)  # the number of the one bucket where time does not part the groups
_LENGTH = Cell._fields.index("length")

Group = tuple[tuple[int, int], tuple[str | None, ...]]  # a bucket's number and the fields' values
Groups = dict[Group, Tally]


class Kind(NamedTuple):
    """One combination of words, by field."""

    words: dict[str, str | None]
    answered: bool
    human: bool
    known: bool


class Clock(Protocol):
    """Parts time into buckets, each with a number."""

    def number(self, quarter: int) -> tuple[int, int]: ...


class Wanted(NamedTuple):
    """What to group by, and whether durations matter."""

    fields: Sequence[str] = ()
    clock: Clock | None = None
    durations: bool = False

    def number(self, quarter: int) -> tuple[int, int]:
        return self.clock.number(quarter) if self.clock else _WHICHEVER

    def is_one(self, first: int, last: int) -> bool:
        return self.clock is None or self.number(first) == self.number(last)


def add_totals(rows: Sequence[Any], wanted: Wanted, groups: Groups) -> None:
    for quarter, count, answered, human, known, attempts, attempted, *durations in rows:
        tally = groups[wanted.number(quarter), ()]
        tally.count += count
        tally.answered += answered
        tally.human += human
        tally.known += known
        tally.attempts += attempts
        tally.attempted += attempted
        for packed in durations:
            tally.durations.add(packed)


def add_cells(
    kinds: Mapping[int, Kind],
    of_batch: Sequence[Condition],
    rows: Sequence[Any],
    wanted: Wanted,
    groups: Groups,
) -> None:
    @cache
    def is_asked(batch: str | None) -> bool:
        return all(holds(one, batch) for one in of_batch)

    entries: dict[Any, _Entries] = {}
    for quarter, heads, *more in rows:
        bucket = wanted.number(quarter)
        durations, at = unpack_durations(more[0]) if more else b"", 0
        for batch, cells in unpack(heads):
            if not is_asked(batch):
                at += sum(cell[_LENGTH] for cell in unpack_cells(cells)) if more else 0
                continue
            if (known := entries.get((bucket, batch))) is None:
                known = entries[bucket, batch] = _Entries(kinds, wanted, groups, bucket, batch)
            for number, total, attempts, attempted, length in unpack_cells(cells):
                if entry := known[number]:
                    entry.total += total
                    entry.attempts += attempts
                    entry.attempted += attempted
                    if length and more:
                        entry.tally.durations.add(durations[at : at + length])
                at += length
    for one in entries.values():
        one.add_up()


class _Entry:
    """What cells of one kind, batch and bucket come to, before it is added to the group's figures."""

    __slots__ = ("attempted", "attempts", "tally", "total")

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.total = self.attempts = self.attempted = 0


class _Entries(dict[int, _Entry | None]):
    """By kind; None for those that were not asked for."""

    def __init__(
        self,
        kinds: Mapping[int, Kind],
        wanted: Wanted,
        groups: Groups,
        bucket: tuple[int, int],
        batch: str | None,
    ) -> None:
        super().__init__()
        self._kinds, self._wanted, self._groups, self._bucket, self._batch = kinds, wanted, groups, bucket, batch

    def __missing__(self, number: int) -> _Entry | None:
        entry = None
        if kind := self._kinds.get(number):
            values = (self._batch if name == "batch" else kind.words[name] for name in self._wanted.fields)
            entry = _Entry(self._groups[self._bucket, tuple(values)])
        self[number] = entry
        return entry

    def add_up(self) -> None:
        for number, entry in self.items():
            if entry:
                kind, tally = self._kinds[number], entry.tally
                tally.count += entry.total
                tally.attempts += entry.attempts
                tally.attempted += entry.attempted
                tally.answered += entry.total * kind.answered
                tally.human += entry.total * kind.human
                tally.known += entry.total * kind.known


def add_live(rows: Sequence[Any], wanted: Wanted, groups: Groups) -> None:
    for *values, quarter, duration, count, answered, human, known, attempts, attempted in rows:
        if not count:
            continue
        tally = groups[wanted.number(quarter), tuple(values)]
        tally.count += count
        tally.answered += answered
        tally.human += human
        tally.known += known
        tally.attempts += attempts or 0
        tally.attempted += attempted
        if wanted.durations and duration is not None:
            tally.durations.count(duration, count)
