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

WEEKDAY, CLOCK_HOUR = "weekday", "clock_hour"  # of local time: 1 is Monday; 0 to 23
_LOCAL_HOUR = "local_hour"
_BEGAN = "began"  # tells the two hours of one name apart
_OF_TIME = {*Bucket, WEEKDAY, CLOCK_HOUR}

_COUNTED: dict[str, ColumnElement[Any]] = {
    "count": func.count(),
    "answered": func.count().filter(outcomes.c.disposition == "answered"),
    "human": func.count().filter(outcomes.c.answered_by == "human"),
    "known": func.count(outcomes.c.answered_by),
}
# By groups these take as long as all else together.
_SUMMED: dict[str, ColumnElement[Any]] = {
    "attempts": func.sum(outcomes.c.attempts),
    "duration_sum": func.sum(outcomes.c.duration_seconds),
}


def group_counts(
    cursor: Cursor, question: Question, groupings: Sequence[Sequence[str]], zone: tzinfo
) -> list[list[Row]]:
    """For each grouping its groups with their counts, in no order; `known` counts those whose answerer is known. The
    grouping by nothing has sums too.

    A grouping names fields, at most one bucket of local time, whose value is its start in the zone, `weekday` and
    `clock_hour`. Raises `TooBroad` for more than 100,000 groups.
    """
    clock = clock_of(cursor, question, zone)
    if not clock:
        return [[] for _ in groupings]
    of_time = [grouping for grouping in groupings if _OF_TIME.intersection(grouping)]
    of_fields = [grouping for grouping in groupings if grouping and grouping not in of_time]
    whole = [grouping for grouping in groupings if not grouping]
    found: dict[tuple[str, ...], list[Row]] = {}
    for some in filter(None, (of_time, of_fields, whole)):
        found |= zip(map(tuple, some), _together(cursor, question, some, clock, zone), strict=True)
    return [found[tuple(grouping)] for grouping in groupings]


def _together(
    cursor: Cursor, question: Question, groupings: Sequence[Sequence[str]], clock: Sequence[Stretch], zone: tzinfo
) -> list[list[Row]]:
    """The calls are read once and counted by all that any grouping names; the groupings add these counts up."""
    figures = _COUNTED if any(groupings) else _COUNTED | _SUMMED
    sets = [[*grouping, *([_BEGAN] if Bucket.HOUR in grouping else [])] for grouping in groupings]
    names = sorted(set().union(*sets))
    finest = _finest(question, names, figures, clock)
    columns = {name: finest.c[name] for name in names}
    sums = {name: func.sum(finest.c[name]) for name in figures}
    found = groups(cursor, columns, sets, sums, most=MAX_GROUPS + 1)
    if sum(map(len, found)) > MAX_GROUPS:
        raise TooBroad(f"more than {MAX_GROUPS} groups; ask for less time by since and until, or for fewer calls")
    return [[_shown(row, zone) for row in of_set] for of_set in found]


def _finest(
    question: Question, names: Sequence[str], figures: Mapping[str, ColumnElement[Any]], clock: Sequence[Stretch]
) -> Subquery:
    """The counts by all names at once; each name of time is told of the local hour."""
    moment = outcomes.c.ended_at
    keys: list[Label[Any]] = [outcomes.c[name].label(name) for name in names if name in outcomes.c]
    if len(keys) < len(names):
        keys.append(local_bucket(moment, Bucket.HOUR, clock).label(_LOCAL_HOUR))
    if _BEGAN in names:
        keys.append(began_minutes(moment, clock).label(_BEGAN))
    told = [figure.label(name) for name, figure in figures.items()]
    places: list[ColumnElement[Any]] = [literal_column(str(place)) for place, _ in enumerate(keys, start=1)]
    counted = select(*keys, *told).where(*where(question)).group_by(*places).subquery()
    columns = [_told(name, counted).label(name) for name in names]
    return select(*columns, *(counted.c[name] for name in figures)).subquery()


def _told(name: str, counted: Subquery) -> ColumnElement[Any]:
    if name in list(Bucket):
        return func.date_trunc(name, counted.c[_LOCAL_HOUR])
    of_hour = {WEEKDAY: func.isodow, CLOCK_HOUR: func.hour}
    return of_hour[name](counted.c[_LOCAL_HOUR]) if name in of_hour else counted.c[name]


def _shown(row: Row, zone: tzinfo) -> Row:
    began = row.pop(_BEGAN, None)

    def shown(name: str, value: Any) -> Any:
        if name in _COUNTED or name in _SUMMED:
            return None if value is None else int(value)
        return start(value.replace(tzinfo=None), Bucket(name), began, zone) if name in list(Bucket) else value

    return {str(name): shown(name, value) for name, value in row.items()}
