"""Wall clocks: how long each offset of a zone holds, and buckets of local time as SQL.

The engine is told the offsets: its own time zones take five times as long. Buckets are of the wall clock: an hour
that occurs twice is two, and one that the clock leaves early by half an hour, and enters again, is one.
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
_STEP = timedelta(days=3)  # no zone has changed its clock twice within this, nor plans to
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)
_FULL_HOUR = datetime(2000, 1, 1, tzinfo=UTC)
_HOUR_SECONDS = 3600
_WEEK_SECONDS = 168 * _HOUR_SECONDS
# From a Monday at 0:00 before year 1 to 1970: a remainder of less than 0 would be negative.
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
    """Without the fraction, of which SQLite rounds what is nearly a second up."""
    return f"CAST(strftime('%s', substr({compiler.process(element.clauses, **kw)}, 1, 19)) AS INTEGER)"


class Bucket(StrEnum):
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Until then the wall clock is UTC plus `offset`, and the hours that it shows began at UTC plus `began`.

    The two differ where the clock comes into the midst of an hour: that hour began before the change, or with it.
    """

    until: datetime
    offset: timedelta
    began: timedelta


def stretches(zone: tzinfo, first: datetime, last: datetime) -> list[Stretch]:
    """Those that the time from `first` to `last` falls into. The last one's `until` says nothing."""
    found = []
    offset = _offset(zone, first)
    for change in _changes(zone, first, last):
        found.append(Stretch(change, offset, offset))
        before, offset = offset, _offset(zone, change)
        passed = (change + offset - _FULL_HOUR) % _HOUR
        if passed:  # the clock now shows an hour that it does not begin
            entered = before if _hour(change - _MINUTE, before) == _hour(change, offset) else offset - passed
            found.append(Stretch(change + _HOUR - passed, offset, entered))
    return [*found, Stretch(last, offset, offset)]


def _hour(moment: datetime, offset: timedelta) -> int:
    """Which hour the clock shows."""
    return (moment + offset - _FULL_HOUR) // _HOUR


def _changes(zone: tzinfo, first: datetime, last: datetime) -> Iterator[datetime]:
    """The moments at which the offset changes."""
    at = first
    while at < last:
        following = at + _STEP
        if _offset(zone, at) != _offset(zone, following):
            yield _change(zone, at, following)
        at = following


def _change(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """The first moment, to the minute, with the offset of `after`."""
    before, after = (moment.replace(second=0, microsecond=0) for moment in (before, after))
    while after - before > _MINUTE:
        middle = before + (after - before) // (2 * _MINUTE) * _MINUTE
        before, after = (middle, after) if _offset(zone, middle) == _offset(zone, before) else (before, middle)
    return after


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def local_bucket(moment: Column[datetime], bucket: Bucket, clock: Sequence[Stretch]) -> ColumnElement[Any]:
    """The wall clock's time at which the moment's bucket begins, as SQL; `start` makes a moment of it."""
    return func.date_trunc(bucket.value, local_time(moment, clock))


def local_time(moment: Column[datetime], clock: Sequence[Stretch]) -> ColumnElement[Any]:
    """What the wall clock shows at the moment, as SQL."""
    if not any(one.offset for one in clock):
        return moment
    return moment + _by_stretch(moment, clock, lambda one: literal(one.offset))


def began_minutes(moment: Column[datetime], clock: Sequence[Stretch]) -> ColumnElement[int]:
    """The offset with which the moment's hour began, in minutes, as SQL: it tells the two of the same name apart."""
    return _by_stretch(moment, clock, lambda one: literal(one.began // _MINUTE))


def at_hours(moment: Column[datetime], clock: Sequence[Stretch], of_week: Iterable[int]) -> ColumnElement[bool]:
    """Whether the wall clock shows one of these hours of the week at the moment, as SQL for every engine.

    By whole seconds: engines differ in how they divide.
    """
    since_monday = _by_stretch(moment, clock, lambda one: literal(one.offset // _SECOND + _MONDAY, BigInteger))
    seconds = _EpochSeconds(moment) + since_monday
    begun = seconds % _WEEK_SECONDS - seconds % _HOUR_SECONDS
    return begun.in_([hour * _HOUR_SECONDS for hour in sorted(of_week)])


def start(wall: datetime, bucket: Bucket, began: int | None, zone: tzinfo) -> datetime:
    """The moment at which a bucket begins, with its offset in the zone.

    A midnight that the clock leaves out is when it went on. The offset is fixed, since Python holds times of one zone
    for the same if only their offsets differ.
    """
    if bucket is Bucket.HOUR:
        moment = wall.replace(tzinfo=UTC) - timedelta(minutes=began or 0)
    else:
        moment = wall.replace(tzinfo=zone).astimezone(UTC)
    return moment.astimezone(timezone(_offset(zone, moment)))


def _by_stretch(
    moment: Column[datetime], clock: Sequence[Stretch], value: Callable[[Stretch], ColumnElement[Any]]
) -> ColumnElement[Any]:
    """The value of the stretch that the moment falls into, found by halves."""
    if len(clock) == 1:
        return value(clock[0])
    half = len(clock) // 2
    early, late = _by_stretch(moment, clock[:half], value), _by_stretch(moment, clock[half:], value)
    return case((moment < bound(moment, clock[half - 1].until), early), else_=late)
