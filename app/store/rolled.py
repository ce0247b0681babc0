"""Figures of outcomes from roll-ups: of clean spans as they are kept, of all else from the outcomes themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, case, func, null, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from app.model import AnsweredBy, Disposition
from app.store.aside import aside
from app.store.conditions import bound, where
from app.store.covering import WORDS, Cover, Stretch, cover
from app.store.holding import holds
from app.store.quarters import LocalClock
from app.store.questions import Condition, Question
from app.store.schema import outcomes, rollup_kinds, rollups
from app.store.tallies import SUMS, Cell, Tally, unpack, unpack_cells, unpack_durations

ROWS = 500  # reckoned with at once, beside the worker
_WHICHEVER = (0, 0)  # the number of the one bucket where time does not part the groups

_LENGTH = Cell._fields.index("length")

Group = tuple[tuple[int, int], tuple[str | None, ...]]  # a bucket's number and the fields' values
Groups = dict[Group, Tally]
FIGURES = {
    "answered": outcomes.c.disposition == Disposition.ANSWERED.value,
    "human": outcomes.c.answered_by == AnsweredBy.HUMAN.value,
    "known": outcomes.c.answered_by.is_not(None),
}


class Kind(NamedTuple):
    """One combination of words, by field."""

    words: dict[str, str | None]
    answered: bool
    human: bool
    known: bool


class Wanted(NamedTuple):
    """What to group by, and whether durations matter."""

    fields: Sequence[str] = ()
    clock: LocalClock | None = None
    durations: bool = False

    def number(self, quarter: int) -> tuple[int, int]:
        return self.clock.number(quarter) if self.clock else _WHICHEVER

    def is_one(self, first: int, last: int) -> bool:
        return self.clock is None or self.number(first) == self.number(last)


def grouped(connection: Connection, question: Question, wanted: Wanted) -> Groups | None:
    """The figures of each group; None where roll-ups don't cover that. The connection reads at one moment."""
    found = cover(connection, question, wanted.is_one)
    if found is None:
        return None
    groups: Groups = defaultdict(Tally)
    columns, add = source(connection, question, wanted)
    for rows in _kept(connection, found, columns):
        aside(add, rows, wanted, groups)
    for stretch in found.stretches:
        aside(_add_live, connection.execute(_live(question, wanted, stretch)).all(), wanted, groups)
    return groups


Add = Callable[[Sequence[Any], Wanted, Groups], None]


def source(connection: Connection, question: Question, wanted: Wanted) -> tuple[list[str], Add]:
    """The columns of roll-ups that tell enough, and how their rows are added up."""
    conditions = [one for one in question.conditions if one.field in WORDS]
    told = {*wanted.fields, *(one.field for one in conditions)}
    if not told:
        return [*SUMS, "durations"][: None if wanted.durations else -1], _add_totals
    heads, durations = ("batches", "batch_durations") if "batch" in told else ("kinds", "kind_durations")
    add = partial(_add_cells, _kinds(connection, conditions), [one for one in conditions if one.field == "batch"])
    return [heads, durations] if wanted.durations else [heads], add


def _kinds(connection: Connection, conditions: Iterable[Condition]) -> dict[int, Kind]:
    """Those that fulfil the conditions, by number."""
    found = {}
    for row in connection.execute(select(rollup_kinds)).mappings():
        if all(holds(one, row[one.field]) for one in conditions if one.field != "batch"):
            by = row["answered_by"]
            is_answered = row["disposition"] == Disposition.ANSWERED
            found[row["id"]] = Kind(dict(row), is_answered, by == AnsweredBy.HUMAN, by is not None)
    return found


def _kept(connection: Connection, found: Cover, columns: Sequence[str]) -> Iterator[list[Any]]:
    statement = select(rollups.c.quarter, *(rollups.c[name] for name in columns))
    for span, quarters in found.spans.items():
        of_span = statement.where(rollups.c.span == span)
        if quarters and len(quarters) * 2 * span > quarters[-1] - quarters[0]:  # nearly all of the stretch
            reads = [rollups.c.quarter.between(quarters[0], quarters[-1])]
        else:
            chunks = (quarters[at : at + ROWS] for at in range(0, len(quarters), ROWS))
            reads = [rollups.c.quarter.in_(chunk) for chunk in chunks]
        are_wanted = set(quarters)
        for read in reads:
            for rows in connection.execute(of_span.where(read)).partitions(ROWS):
                yield [row for row in rows if row[0] in are_wanted]


def _add_totals(rows: Sequence[Any], wanted: Wanted, groups: Groups) -> None:
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


def _add_cells(
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
            known = entries.setdefault((bucket, batch), _Entries(kinds, wanted, groups, bucket, batch))
            for number, total, attempts, attempted, length in unpack_cells(cells):
                entry = known[number]
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


class _Entries(dict[int, _Entry]):
    """By kind; what comes of a kind that was not asked for goes nowhere."""

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

    def __missing__(self, number: int) -> _Entry:
        kind = self._kinds.get(number)
        if kind is None:
            entry = _Entry(Tally())
        else:
            values = (self._batch if name == "batch" else kind.words[name] for name in self._wanted.fields)
            entry = _Entry(self._groups[self._bucket, tuple(values)])
        self[number] = entry
        return entry

    def add_up(self) -> None:
        for number, entry in self.items():
            if kind := self._kinds.get(number):
                tally = entry.tally
                tally.count += entry.total
                tally.attempts += entry.attempts
                tally.attempted += entry.attempted
                tally.answered += entry.total * kind.answered
                tally.human += entry.total * kind.human
                tally.known += entry.total * kind.known


# --- outcomes


def _live(question: Question, wanted: Wanted, stretch: Stretch) -> Select[Any]:
    moment, attempts = outcomes.c.ended_at, outcomes.c.attempts
    fields: list[ColumnElement[Any]] = [outcomes.c[name] for name in wanted.fields]
    quarter = _QuarterOf(moment).label("quarter") if wanted.clock else None
    duration = outcomes.c.duration_seconds if wanted.durations else None
    within = (moment >= bound(moment, stretch[0]), moment < bound(moment, stretch[1]))
    figures = (func.sum(case((is_so, 1), else_=0)) for is_so in FIGURES.values())
    told = [null() if one is None else one for one in (quarter, duration)]
    statement = select(*fields, *told, func.count(), *figures, func.sum(attempts), func.count(attempts))
    key = [*fields, *(one for one in (quarter, duration) if one is not None)]
    return statement.where(*where(question), *within).group_by(*key)


def _add_live(rows: Sequence[Any], wanted: Wanted, groups: Groups) -> None:
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


class _QuarterOf(GenericFunction[int]):
    """The number of the quarter that a moment lies in."""

    inherit_cache = True
    type = BigInteger()
    name = "quarter_of"


@compiles(_QuarterOf, "postgresql")
def _postgresql_quarter(element: _QuarterOf, compiler: Any, **kw: Any) -> str:
    return f"CAST(floor(extract(epoch FROM {compiler.process(element.clauses, **kw)}) / 900) AS bigint)"


@compiles(_QuarterOf, "sqlite")
def _sqlite_quarter(element: _QuarterOf, compiler: Any, **kw: Any) -> str:
    # To the minute: SQLite rounds fractions of seconds.
    return f"CAST(strftime('%s', substr({compiler.process(element.clauses, **kw)}, 1, 16)) AS INTEGER) / 900"
