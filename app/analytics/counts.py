"""Counts by groupings, without the percentiles of a summary, which cost several times as much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Label, Subquery, func, literal_column, select

from app.analytics.answers import MAX_GROUPS, Row, clock_of
from app.analytics.grouping_sets import groups
from app.errors import TooBroad
from app.store.query.buckets import Bucket, Stretch, began_minutes, local_bucket, start
from app.store.query.conditions import where
from app.store.query.question import Question
from app.store.schema import outcomes

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Cursor

WEEKDAY, CLOCK_HOUR = "weekday", "clock_hour"  # of local time: 1 to 7, Monday is 1; 0 to 23
_LOCAL_HOUR = "local_hour"
_BEGAN = "began"  # distinguishes two local hours with the same name, when clocks are set back
_OF_TIME = {*Bucket, WEEKDAY, CLOCK_HOUR}

_COUNTED: dict[str, ColumnElement[Any]] = {
    "count": func.count(),
    "answered": func.count().filter(outcomes.c.disposition == "answered"),
    "human": func.count().filter(outcomes.c.answered_by == "human"),
    "known": func.count(outcomes.c.answered_by),
}
# Grouped, these sums take as long as all other figures together.
_SUMMED: dict[str, ColumnElement[Any]] = {
    "attempts": func.sum(outcomes.c.attempts),
    "duration_sum": func.sum(outcomes.c.duration_seconds),
}


def group_counts(
    cursor: Cursor, question: Question, groupings: Sequence[Sequence[str]], zone: tzinfo
) -> list[list[Row]]:
    """Return the groups of each grouping with their counts, unsorted; `known` counts outcomes whose answerer is
    known. The empty grouping has sums too.

    A grouping names fields, at most one bucket of local time (its value is the bucket's start in the zone), `weekday`
    and `clock_hour`. Raises `TooBroad` if there are more than 100,000 groups.
    """
    clock = clock_of(cursor, question, zone)
    if not clock:
        return [[] for _ in groupings]
    by_time = [grouping for grouping in groupings if _OF_TIME.intersection(grouping)]
    by_fields = [grouping for grouping in groupings if grouping and grouping not in by_time]
    whole = [grouping for grouping in groupings if not grouping]
    groups_by_grouping: dict[tuple[str, ...], list[Row]] = {}
    for batch in filter(None, (by_time, by_fields, whole)):
        groups_by_grouping |= zip(map(tuple, batch), _count_batch(cursor, question, batch, clock, zone), strict=True)
    return [groups_by_grouping[tuple(grouping)] for grouping in groupings]


def _count_batch(
    cursor: Cursor, question: Question, groupings: Sequence[Sequence[str]], clock: Sequence[Stretch], zone: tzinfo
) -> list[list[Row]]:
    """Count a batch of groupings. The outcomes are read once and counted by all names that occur in any grouping;
    each grouping then adds these counts up."""
    figures = _COUNTED if any(groupings) else _COUNTED | _SUMMED
    sets = [[*grouping, *([_BEGAN] if Bucket.HOUR in grouping else [])] for grouping in groupings]
    names = sorted(set().union(*sets))
    finest = _finest(question, names, figures, clock)
    columns = {name: finest.c[name] for name in names}
    sums = {name: func.sum(finest.c[name]) for name in figures}
    grouped = groups(cursor, columns, sets, sums, most=MAX_GROUPS + 1)
    if sum(map(len, grouped)) > MAX_GROUPS:
        raise TooBroad(f"more than {MAX_GROUPS} groups; ask for less time by since and until, or for fewer calls")
    return [[_group_row(row, zone) for row in groups_of_set] for groups_of_set in grouped]


def _finest(
    question: Question, names: Sequence[str], figures: Mapping[str, ColumnElement[Any]], clock: Sequence[Stretch]
) -> Subquery:
    """Return the counts by all names at once; keys of time are derived from the local hour."""
    moment = outcomes.c.ended_at
    keys: list[Label[Any]] = [outcomes.c[name].label(name) for name in names if name in outcomes.c]
    if len(keys) < len(names):
        keys.append(local_bucket(moment, Bucket.HOUR, clock).label(_LOCAL_HOUR))
    if _BEGAN in names:
        keys.append(began_minutes(moment, clock).label(_BEGAN))
    labelled = [figure.label(name) for name, figure in figures.items()]
    positions: list[ColumnElement[Any]] = [literal_column(str(position)) for position, _ in enumerate(keys, start=1)]
    counted = select(*keys, *labelled).where(*where(question)).group_by(*positions).subquery()
    columns = [_key_column(name, counted).label(name) for name in names]
    return select(*columns, *(counted.c[name] for name in figures)).subquery()


def _key_column(name: str, counted: Subquery) -> ColumnElement[Any]:
    if name in list(Bucket):
        return func.date_trunc(name, counted.c[_LOCAL_HOUR])
    functions = {WEEKDAY: func.isodow, CLOCK_HOUR: func.hour}
    return functions[name](counted.c[_LOCAL_HOUR]) if name in functions else counted.c[name]


def _group_row(row: Row, zone: tzinfo) -> Row:
    began = row.pop(_BEGAN, None)

    def converted(name: str, value: Any) -> Any:
        if name in _COUNTED or name in _SUMMED:
            return None if value is None else int(value)
        return start(value.replace(tzinfo=None), Bucket(name), began, zone) if name in list(Bucket) else value

    return {str(name): converted(name, value) for name, value in row.items()}
