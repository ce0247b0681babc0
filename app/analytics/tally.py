"""Counts by several groupings at once: one pass over the outcomes, where a summary with its exact percentiles takes
one for each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any

from duckdb import DuckDBPyConnection as Cursor
from sqlalchemy import ColumnElement, FromClause, func, select, tuple_

from app.analytics.answers import MAX_GROUPS, Row, clock_of
from app.analytics.sql import rows
from app.errors import TooBroad
from app.store.query.buckets import Bucket, Stretch, began_minutes, local_bucket, local_time, start
from app.store.query.conditions import where
from app.store.query.question import Question
from app.store.schema import outcomes

WEEKDAY, CLOCK_HOUR = "weekday", "clock_hour"  # of local time: 1 is Monday; 0 to 23
_BEGAN = "began"  # tells the two hours of one name apart
_COUNTED = ("count", "answered", "human", "known", "attempts", "duration_sum")


def tally(cursor: Cursor, question: Question, groupings: Sequence[Sequence[str]], zone: tzinfo) -> list[list[Row]]:
    """For each grouping its groups with their counts, in no order; of `known` the answerer is known.

    A grouping names fields, a bucket of local time, whose value is its start in the zone, or `weekday` and
    `clock_hour`; all groupings together name one bucket at most. Raises `TooBroad` for more than 100,000 groups.
    """
    clock = clock_of(cursor, question, zone)
    if not clock:
        return [[] for _ in groupings]
    names = list(dict.fromkeys(name for grouping in groupings for name in grouping))
    bucket = next((Bucket(name) for name in names if name in list(Bucket)), None)
    began = [began_minutes(outcomes.c.ended_at, clock).label(_BEGAN)] if bucket is Bucket.HOUR else []
    keys = [_key(name, bucket, clock).label(name) for name in names]
    counted = [outcomes.c.disposition.label("ended"), outcomes.c.answered_by.label("by")]
    counted += [outcomes.c.attempts.label("tried"), outcomes.c.duration_seconds.label("seconds")]
    calls = select(*keys, *began, *counted).where(*where(question)).subquery()
    sets = [[calls.c[name] for name in _columns(grouping)] for grouping in groupings]
    marks = [func.grouping(calls.c[name]) for name in [*names, *([_BEGAN] if began else [])]]
    shown = [calls.c[name] for name in [*names, *([_BEGAN] if began else [])]]
    statement = select(*shown, *marks, *_figures(calls)).group_by(func.grouping_sets(*(tuple_(*one) for one in sets)))
    found = rows(cursor, statement.limit(MAX_GROUPS + 1))
    if len(found) > MAX_GROUPS:
        raise TooBroad(f"more than {MAX_GROUPS} groups; ask for less time by since and until, or for fewer calls")
    return _parted(found, groupings, [column.name for column in shown], bucket, zone)


def _columns(grouping: Sequence[str]) -> list[str]:
    return [*grouping, *([_BEGAN] if Bucket.HOUR in grouping else [])]


def _key(name: str, bucket: Bucket | None, clock: Sequence[Stretch]) -> ColumnElement[Any]:
    if bucket and name == bucket:
        return local_bucket(outcomes.c.ended_at, bucket, clock)
    if name == WEEKDAY:
        return func.isodow(local_time(outcomes.c.ended_at, clock))
    if name == CLOCK_HOUR:
        return func.hour(local_time(outcomes.c.ended_at, clock))
    return outcomes.c[name]


def _figures(calls: FromClause) -> list[ColumnElement[Any]]:
    return [
        func.count(),
        func.count().filter(calls.c.ended == "answered"),
        func.count().filter(calls.c.by == "human"),
        func.count(calls.c.by),
        func.sum(calls.c.tried),
        func.sum(calls.c.seconds),
    ]


def _parted(
    found: Sequence[Sequence[Any]],
    groupings: Sequence[Sequence[str]],
    names: Sequence[str],
    bucket: Bucket | None,
    zone: tzinfo,
) -> list[list[Row]]:
    """The rows by grouping: `GROUPING` is 0 for what a row is grouped by."""
    parted: dict[frozenset[str], list[Row]] = {frozenset(_columns(grouping)): [] for grouping in groupings}
    for row in found:
        values, marks = row[: len(names)], row[len(names) : 2 * len(names)]
        keys = {name: value for name, value, mark in zip(names, values, marks, strict=True) if not mark}
        figures = dict(zip(_COUNTED, row[2 * len(names) :], strict=True))
        which = frozenset(keys)
        if bucket and bucket in keys:
            keys[bucket] = start(keys[bucket].replace(tzinfo=None), bucket, keys.pop(_BEGAN, None), zone)
        parted[which].append({str(name): value for name, value in keys.items()} | figures)
    return [parted[frozenset(_columns(grouping))] for grouping in groupings]
