"""Local time: the periods in which a zone has one offset, and buckets of local time as SQL.

The SQL contains the offsets, since the engine's own time zones take five times as long. Buckets follow the wall
clock: an hour that occurs twice makes two buckets; an hour that a change of half an hour interrupts makes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, case, func, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from app.store.query.literals import bound

_HOUR = timedelta(hours=1)
_STEP = timedelta(days=3)  # no zone has changed its clock twice within this time, nor plans to
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)
_FULL_HOUR = datetime(2000, 1, 1, tzinfo=UTC)
_HOUR_SECONDS = 3600
_WEEK_SECONDS = 168 * _HOUR_SECONDS
# From a Monday at 0:00 before year 1 to 1970. Without it times before 1970 would have negative remainders.
_MONDAY = 72 * _HOUR_SECONDS + 110_000 * _WEEK_SECONDS


class _EpochSeconds(GenericFunction[int]):
    """Whole seconds since 1970, in UTC."""

    inherit_cache = True
    name = "epoch_seconds"


@compiles(_EpochSeconds, "postgresql")
def _postgresql_seconds(element: _EpochSeconds, compiler: Any, **kw: Any) -> str:
    return f"CAST(floor(extract(epoch FROM {compiler.process(element.clauses, **kw)})) AS BIGINT)"


@compiles(_EpochSeconds, "sqlite")
def _sqlite_seconds(element: _EpochSeconds, compiler: Any, **kw: Any) -> str:
    """Cut the fraction off, since SQLite would round a fraction near 1 up to the next second."""
    return f"CAST(strftime('%s', substr({compiler.process(element.clauses, **kw)}, 1, 19)) AS INTEGER)"


class Bucket(StrEnum):
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A period up to `until` in which local time is UTC plus `offset`, and its hours began at UTC plus `began`.

    The two differ if a change leads into the middle of an hour: that hour began before the change, or with it.
    """

    until: datetime
    offset: timedelta
    began: timedelta


def stretches(zone: tzinfo, first: datetime, last: datetime) -> list[Stretch]:
    """Return the stretches between `first` and `last`. The `until` of the last one has no meaning."""
    periods = []
    offset = _offset(zone, first)
    for change in _changes(zone, first, last):
        periods.append(Stretch(change, offset, offset))
        previous, offset = offset, _offset(zone, change)
        elapsed = (change + offset - _FULL_HOUR) % _HOUR
        if elapsed:  # the clock has jumped into the middle of an hour
            entered = previous if _hour(change - _MINUTE, previous) == _hour(change, offset) else offset - elapsed
            periods.append(Stretch(change + _HOUR - elapsed, offset, entered))
    return [*periods, Stretch(last, offset, offset)]


def _hour(moment: datetime, offset: timedelta) -> int:
    """Return the number of the hour that the clock shows."""
    return (moment + offset - _FULL_HOUR) // _HOUR


def _changes(zone: tzinfo, first: datetime, last: datetime) -> Iterator[datetime]:
    """Yield the moments at which the offset changes."""
    at = first
    while at < last:
        following = at + _STEP
        if _offset(zone, at) != _offset(zone, following):
            yield _change(zone, at, following)
        at = following


def _change(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """Return the first moment, to the minute, with the offset of `after`."""
    before, after = (moment.replace(second=0, microsecond=0) for moment in (before, after))
    while after - before > _MINUTE:
        middle = before + (after - before) // (2 * _MINUTE) * _MINUTE
        before, after = (middle, after) if _offset(zone, middle) == _offset(zone, before) else (before, middle)
    return after


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def local_bucket(moment: Column[datetime], bucket: Bucket, clock: Sequence[Stretch]) -> ColumnElement[Any]:
    """Return SQL for the local time at which the moment's bucket begins; `start` converts its value to a moment."""
    return func.date_trunc(bucket.value, local_time(moment, clock))


def local_time(moment: Column[datetime], clock: Sequence[Stretch]) -> ColumnElement[Any]:
    """Return SQL for the local time of the moment."""
    if not any(stretch.offset for stretch in clock):
        return moment
    return moment + _by_stretch(moment, clock, lambda stretch: literal(stretch.offset))


def began_minutes(moment: Column[datetime], clock: Sequence[Stretch]) -> ColumnElement[int]:
    """Return SQL for the offset in minutes with which the moment's hour began: it distinguishes two hours of the same
    name."""
    return _by_stretch(moment, clock, lambda stretch: literal(stretch.began // _MINUTE))


def at_hours(moment: Column[datetime], clock: Sequence[Stretch], of_week: Iterable[int]) -> ColumnElement[bool]:
    """Return SQL, for every engine, that is true if the moment is in one of these hours of the local week.

    It uses whole seconds, since engines divide differently.
    """
    since_monday = _by_stretch(
        moment, clock, lambda stretch: literal(stretch.offset // _SECOND + _MONDAY, BigInteger)
    )
    seconds = _EpochSeconds(moment) + since_monday
    hour_start = seconds % _WEEK_SECONDS - seconds % _HOUR_SECONDS
    return hour_start.in_([hour * _HOUR_SECONDS for hour in sorted(of_week)])


def start(wall: datetime, bucket: Bucket, began: int | None, zone: tzinfo) -> datetime:
    """Return the moment at which a bucket begins, with its offset in the zone.

    If the clock skips midnight, the day begins when the clock jumps. The returned offset is fixed, since Python
    considers times of one zone equal even if their offsets differ.
    """
    if bucket is Bucket.HOUR:
        moment = wall.replace(tzinfo=UTC) - timedelta(minutes=began or 0)
    else:
        moment = wall.replace(tzinfo=zone).astimezone(UTC)
    return moment.astimezone(timezone(_offset(zone, moment)))


def _by_stretch(
    moment: Column[datetime], clock: Sequence[Stretch], value: Callable[[Stretch], ColumnElement[Any]]
) -> ColumnElement[Any]:
    """Return SQL that finds the moment's stretch by bisection and gives its value."""
    if len(clock) == 1:
        return value(clock[0])
    half = len(clock) // 2
    early, late = _by_stretch(moment, clock[:half], value), _by_stretch(moment, clock[half:], value)
    return case((moment < bound(moment, clock[half - 1].until), early), else_=late)
