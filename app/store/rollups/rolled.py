"""Figures of outcomes from roll-ups: of clean spans as they are kept, of all else from the outcomes themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, case, func, null, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from app.model import AnsweredBy, Disposition
from app.store.aside import aside
from app.store.asking.conditions import bound, where
from app.store.asking.holding import holds
from app.store.asking.questions import Condition, Question
from app.store.rollups.adding import Groups, Kind, Wanted, add_cells, add_live, add_totals
from app.store.rollups.covering import WORDS, Cover, Stretch, cover
from app.store.rollups.tallies import SUMS, Tally
from app.store.schema import outcomes, rollup_kinds, rollups

ROWS = 500  # reckoned with at once, beside the worker

FIGURES = {
    "answered": outcomes.c.disposition == Disposition.ANSWERED.value,
    "human": outcomes.c.answered_by == AnsweredBy.HUMAN.value,
    "known": outcomes.c.answered_by.is_not(None),
}


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
        aside(add_live, connection.execute(_live(question, wanted, stretch)).all(), wanted, groups)
    return groups


Add = Callable[[Sequence[Any], Wanted, Groups], None]


def source(connection: Connection, question: Question, wanted: Wanted) -> tuple[list[str], Add]:
    """The columns of roll-ups that tell enough, and how their rows are added up."""
    conditions = [one for one in question.conditions if one.field in WORDS]
    told = {*wanted.fields, *(one.field for one in conditions)}
    if not told:
        return [*SUMS, "durations"][: None if wanted.durations else -1], add_totals
    heads, durations = ("batches", "batch_durations") if "batch" in told else ("kinds", "kind_durations")
    add = partial(add_cells, _kinds(connection, conditions), [one for one in conditions if one.field == "batch"])
    return [heads, durations] if wanted.durations else [heads], add


def any_kind(connection: Connection, question: Question) -> bool:
    """Whether what is asked for has ever been rolled up, whenever it ended."""
    return bool(_kinds(connection, [one for one in question.conditions if one.field in WORDS]))


def _kinds(connection: Connection, conditions: Iterable[Condition]) -> dict[int, Kind]:
    """Those that fulfil the conditions, by number."""
    found = {}
    for row in connection.execute(select(rollup_kinds)).mappings().all():
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
