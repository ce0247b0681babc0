"""Which time a page is about, the same length of time before it, and the marks that part it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from itertools import count
from typing import NamedTuple

from marshmallow import ValidationError
from werkzeug.datastructures import MultiDict

from app.store.query.buckets import Bucket
from app.store.query.question import Condition, Operator
from app.values import EARLIEST, LATEST
from app.web.errors import Invalid
from app.web.fields import parse_moment

USUAL = "30-days"
_DAY = timedelta(days=1)
_QUARTER = timedelta(minutes=15)  # no zone's clock changes in the midst of one
_DAYS = {"7-days": 7, USUAL: 30, "90-days": 90, "year": 365}
NAMES = ["today", "yesterday", *_DAYS, "all"]


class Period(NamedTuple):
    """From `since` on and before `until`, both in one zone, so that Python counts their days by its wall clock."""

    since: datetime
    until: datetime

    @property
    def conditions(self) -> list[Condition]:
        """That a call ended then."""
        bounds = ((Operator.GTE, self.since), (Operator.LT, self.until))
        return [Condition("ended_at", operator, [moment.astimezone(UTC)]) for operator, moment in bounds]

    @property
    def parameters(self) -> dict[str, str]:
        """The same in a URL."""
        return {"since": _written(self.since), "until": _written(self.until)}

    def before(self, now: datetime) -> Period:
        """As much time just before; of a period that is not over yet, as much as has passed of it."""
        length = self.until - self.since
        until = min(self.until, now.astimezone(self.since.tzinfo)) if self.since <= now else self.until
        return Period(self.since - length, until - length)

    def within(self, other: Period) -> Period:
        return Period(max(self.since, other.since, key=_utc), min(self.until, other.until, key=_utc))


class Unit(StrEnum):
    """How long a mark of a chart is."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"

    @property
    def bucket(self) -> Bucket:
        """By which a summary is grouped; years are added up from months."""
        return Bucket.MONTH if self is Unit.YEAR else Bucket(self.value)


# The longest period, in days, that each unit parts into so few marks that a page can hold a link for each.
_LONGEST = {Unit.HOUR: 2, Unit.DAY: 35, Unit.WEEK: 240, Unit.MONTH: 1070}

_FIRST: dict[Unit, Callable[[date], date]] = {
    Unit.DAY: lambda day: day,
    Unit.WEEK: lambda day: day - timedelta(days=day.weekday()),
    Unit.MONTH: lambda day: day.replace(day=1),
    Unit.YEAR: lambda day: day.replace(month=1, day=1),
}
_AT_LEAST_ONE = {Unit.DAY: 1, Unit.WEEK: 7, Unit.MONTH: 31, Unit.YEAR: 366}  # days, from the first


def chosen(args: MultiDict[str, str], zone: tzinfo, now: datetime, all_time: Period) -> Period:
    """By `since` and `until`, else by the name `period`. Raises `Invalid`."""
    since, until = (_moment(args, name, zone) for name in ("since", "until"))
    if since or until:
        until = until or _midnight(now.astimezone(zone), 1)
        return _checked(Period(since or until - _DAYS[USUAL] * _DAY, until))
    name = args.get("period", USUAL)
    if name not in NAMES:
        raise Invalid({"period": [f"{name!r} is none of {', '.join(NAMES)}"]})
    return all_time if name == "all" else _named(name, now.astimezone(zone))


def _named(name: str, now: datetime) -> Period:
    if name == "yesterday":
        return Period(_midnight(now, -1), _midnight(now))
    return Period(_midnight(now, 1 - _DAYS.get(name, 1)), _midnight(now, 1))


def whole_days(first: datetime, last: datetime, zone: tzinfo, least: int = 1) -> Period:
    """At least so many days, the last one that of the moment `last`."""
    until = _midnight(last.astimezone(zone), 1)
    return Period(min(_midnight(first.astimezone(zone)), until - least * _DAY), until)


def unit_of(period: Period) -> Unit:
    days = (period.until - period.since) / _DAY
    return next((unit for unit, longest in _LONGEST.items() if days <= longest), Unit.YEAR)


def start(moment: datetime, unit: Unit, zone: tzinfo) -> datetime:
    """When the mark of this moment begins, in UTC, which tells an hour that the clock shows twice apart."""
    local = moment.astimezone(zone)
    if unit is Unit.HOUR:
        at = moment.astimezone(UTC)
        at = at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)
        return next(one for one in (at - number * _QUARTER for number in count()) if _begins_hour(one, zone))
    return datetime.combine(_FIRST[unit](local.date()), time(), zone).astimezone(UTC)


def following(mark: datetime, unit: Unit, zone: tzinfo) -> datetime:
    """When the next mark begins."""
    if unit is Unit.HOUR:
        return next(one for one in (mark + number * _QUARTER for number in count(1)) if _begins_hour(one, zone))
    day = _FIRST[unit](mark.astimezone(zone).date() + timedelta(days=_AT_LEAST_ONE[unit]))
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _begins_hour(at: datetime, zone: tzinfo) -> bool:
    """Whether the clock shows a full hour then, or has come into another one.

    An hour that it leaves early by half an hour, and enters again, is one, as in a summary.
    """
    wall, before = at.astimezone(zone), (at - _QUARTER).astimezone(zone)
    return not wall.minute or (wall.date(), wall.hour) != (before.date(), before.hour)


def _utc(moment: datetime) -> datetime:
    """Times of one zone are compared by what the clock shows, which an hour that occurs twice does not order."""
    return moment.astimezone(UTC)


def marks(period: Period, unit: Unit) -> Iterator[Period]:
    """Those that the period touches, in order, its first and last as far as they lie within it."""
    zone = period.since.tzinfo or UTC
    mark, end = start(period.since, unit, zone), period.until.astimezone(UTC)
    while mark < end:
        after = following(mark, unit, zone)
        yield Period(mark.astimezone(zone), after.astimezone(zone))
        mark = after


def told(mark: datetime, unit: Unit) -> str:
    """`14:00`, `8 Mar`, `week of 2 Mar 2026`, `Mar 2026`, `2026`."""
    return f"{mark:{_FORMATS[unit]}}"


def told_period(period: Period) -> str:
    """`30 Oct 2026 to 28 Nov 2026`, the last day being part of it; with the time of day where that is no midnight."""
    if period.since == _midnight(period.since) and period.until == _midnight(period.until):
        first, last = period.since.date(), period.until.date() - _DAY
        return f"{first:{_DATE}}" if first == last else f"{first:{_DATE}} to {last:{_DATE}}"
    return f"{period.since:{_DATE} %H:%M} to {period.until:{_DATE} %H:%M}"


_DATE = "%-d %b %Y"
_FORMATS = {
    Unit.HOUR: "%-d %b %H:%M",
    Unit.DAY: "%a %-d %b",
    Unit.WEEK: "week of %-d %b %Y",
    Unit.MONTH: "%b %Y",
    Unit.YEAR: "%Y",
}


def _moment(args: MultiDict[str, str], name: str, zone: tzinfo) -> datetime | None:
    """None where it is not said."""
    if not (text := args.get(name)):
        return None
    try:
        # No call ends at another time, and there is as much before as after that Python can count with.
        return max(EARLIEST, min(parse_moment(text, zone), LATEST)).astimezone(zone)
    except ValidationError as error:
        raise Invalid({name: [str(message) for message in error.messages]}) from None


def _checked(period: Period) -> Period:
    if period.since.astimezone(UTC) >= period.until.astimezone(UTC):
        raise Invalid({"until": ["has to be later than since"]})
    return period


def _midnight(local: datetime, days: int = 0) -> datetime:
    """That of so many days later."""
    return datetime.combine(local.date() + days * _DAY, time(), local.tzinfo)


def _written(moment: datetime) -> str:
    """A bare date is its midnight in the question's zone."""
    is_midnight = moment == _midnight(moment) and not moment.fold
    return moment.date().isoformat() if is_midnight else moment.isoformat()
