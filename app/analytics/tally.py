"""Counts by groupings, without the percentiles of a summary, which cost several times as much."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any

from duckdb import DuckDBPyConnection as Cursor
from sqlalchemy import ColumnElement, func, literal_column, select

from app.analytics.answers import MAX_GROUPS, Row, clock_of
from app.analytics.sql import rows
from app.errors import TooBroad
from app.store.query.buckets import Bucket, Stretch, began_minutes, local_bucket, local_time, start
from app.store.query.conditions import where
from app.store.query.question import Question
from app.store.schema import outcomes

WEEKDAY, CLOCK_HOUR = "weekday", "clock_hour"  # of local time: 1 is Monday; 0 to 23
_BEGAN = "began"  # tells the two hours of one name apart

_COUNTED: dict[str, ColumnElement[Any]] = {
    "count": func.count(),
    "answered": func.count().filter(outcomes.c.disposition == "answered"),
    "human": func.count().filter(outcomes.c.answered_by == "human"),
    "known": func.count(outcomes.c.answered_by),
}
_SUMMED: dict[str, ColumnElement[Any]] = {
    "attempts": func.sum(outcomes.c.attempts),
    "duration_sum": func.sum(outcomes.c.duration_seconds),
}


def tally(cursor: Cursor, question: Question, groupings: Sequence[Sequence[str]], zone: tzinfo) -> list[list[Row]]:
    """For each grouping its groups with their counts, in no order; `known` counts those whose answerer is known. The
    grouping by nothing has sums too.

    A grouping names fields, at most one bucket of local time, whose value is its start in the zone, `weekday` and
    `clock_hour`. Raises `TooBroad` for more than 100,000 groups of one.
    """
    clock = clock_of(cursor, question, zone)
    return [_groups(cursor, question, grouping, clock, zone) if clock else [] for grouping in groupings]


def _groups(
    cursor: Cursor, question: Question, grouping: Sequence[str], clock: Sequence[Stretch], zone: tzinfo
) -> list[Row]:
    names = [*grouping, *([_BEGAN] if Bucket.HOUR in grouping else [])]
    places: list[ColumnElement[Any]] = [literal_column(str(place)) for place, _ in enumerate(names, start=1)]
    keys = [_key(name, clock) for name in names]
    figures = _COUNTED | ({} if grouping else _SUMMED)
    statement = select(*keys, *figures.values()).where(*where(question)).group_by(*places).limit(MAX_GROUPS + 1)
    found = rows(cursor, statement)
    if len(found) > MAX_GROUPS:
        raise TooBroad(f"more than {MAX_GROUPS} groups; ask for less time by since and until, or for fewer calls")
    return [_shown(dict(zip([*names, *figures], row, strict=True)), zone) for row in found]


def _key(name: str, clock: Sequence[Stretch]) -> ColumnElement[Any]:
    moment = outcomes.c.ended_at
    if name in list(Bucket):
        return local_bucket(moment, Bucket(name), clock)
    of_clock = {WEEKDAY: func.isodow, CLOCK_HOUR: func.hour}
    if name in of_clock:
        return of_clock[name](local_time(moment, clock))
    return began_minutes(moment, clock) if name == _BEGAN else outcomes.c[name]


def _shown(row: Row, zone: tzinfo) -> Row:
    began = row.pop(_BEGAN, None)
    walls = {name: value for name, value in row.items() if name in list(Bucket)}
    sums = {name: int(row[name]) for name in _SUMMED if row.get(name) is not None}
    starts = {name: start(wall.replace(tzinfo=None), Bucket(name), began, zone) for name, wall in walls.items()}
    return {str(name): value for name, value in (row | starts | sums).items()}
