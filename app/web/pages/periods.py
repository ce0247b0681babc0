"""The period of a page, the period of the same length before it, and the marks of a chart that divide it."""

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
_QUARTER = timedelta(minutes=15)  # no zone's clock changes within one
_DAYS = {"7-days": 7, USUAL: 30, "90-days": 90, "year": 365}
NAMES = ["today", "yesterday", *_DAYS, "all"]


class Period(NamedTuple):
    """The time from `since` to before `until`. Both are in one zone, so Python subtracts their wall-clock times."""

    since: datetime
    until: datetime

    @property
    def conditions(self) -> list[Condition]:
        """The conditions that a call ended in the period."""
        bounds = ((Operator.GTE, self.since), (Operator.LT, self.until))
        return [Condition("ended_at", operator, [moment.astimezone(UTC)]) for operator, moment in bounds]

    @property
    def parameters(self) -> dict[str, str]:
        """The period as a URL's parameters."""
        return {"since": _parameter(self.since), "until": _parameter(self.until)}

    def before(self, now: datetime) -> Period:
        """Return the period of the same length before; if this one is not over, only as much as has passed of it."""
        length = self.until - self.since
        until = min(self.until, now.astimezone(self.since.tzinfo)) if self.since <= now else self.until
        return Period(self.since - length, until - length)

    def within(self, other: Period) -> Period:
        return Period(max(self.since, other.since, key=_utc), min(self.until, other.until, key=_utc))


class Unit(StrEnum):
    """The length of a chart's mark."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"

    @property
    def bucket(self) -> Bucket:
        """The bucket by which the copy groups; years are summed from months."""
        return Bucket.MONTH if self is Unit.YEAR else Bucket(self.value)


# For each unit, the longest period in days with few enough marks that the page can hold a link for each.
_LONGEST_DAYS = {Unit.HOUR: 2, Unit.DAY: 35, Unit.WEEK: 240, Unit.MONTH: 1070}

_FIRST_DAY: dict[Unit, Callable[[date], date]] = {
    Unit.DAY: lambda day: day,
    Unit.WEEK: lambda day: day - timedelta(days=day.weekday()),
    Unit.MONTH: lambda day: day.replace(day=1),
    Unit.YEAR: lambda day: day.replace(month=1, day=1),
}
# From the first day of a unit, so many days lead into the next unit.
_MAX_DAYS = {Unit.DAY: 1, Unit.WEEK: 7, Unit.MONTH: 31, Unit.YEAR: 366}


def chosen(args: MultiDict[str, str], zone: tzinfo, now: datetime, all_time: Period) -> Period:
    """Return the period by `since` and `until`, else by the name `period`. Raises `Invalid`."""
    since, until = (_moment(args, name, zone) for name in ("since", "until"))
    if since or until:
        until = until or _midnight(now.astimezone(zone), 1)
        return _checked(Period(since or until - _DAYS[USUAL] * _DAY, until))
    name = args.get("period", USUAL)
    if name not in NAMES:
        raise Invalid({"period": [f"{name!r} is none of {', '.join(NAMES)}"]})
    return all_time if name == "all" else _named_period(name, now.astimezone(zone))


def _named_period(name: str, now: datetime) -> Period:
    if name == "yesterday":
        return Period(_midnight(now, -1), _midnight(now))
    return Period(_midnight(now, 1 - _DAYS.get(name, 1)), _midnight(now, 1))


def whole_days(first: datetime, last: datetime, zone: tzinfo, least: int = 1) -> Period:
    """Return whole days from `first` to `last`, at least `least` of them, counted back from the day of `last`."""
    until = _midnight(last.astimezone(zone), 1)
    return Period(min(_midnight(first.astimezone(zone)), until - least * _DAY), until)


def unit_of(period: Period) -> Unit:
    days = (period.until - period.since) / _DAY
    return next((unit for unit, longest in _LONGEST_DAYS.items() if days <= longest), Unit.YEAR)


def start(moment: datetime, unit: Unit, zone: tzinfo) -> datetime:
    """Return the start of the moment's mark, in UTC, which distinguishes an hour that the clock shows twice."""
    local = moment.astimezone(zone)
    if unit is Unit.HOUR:
        at = moment.astimezone(UTC)
        at = at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)
        return next(start for start in (at - number * _QUARTER for number in count()) if _begins_hour(start, zone))
    return datetime.combine(_FIRST_DAY[unit](local.date()), time(), zone).astimezone(UTC)


def following(mark: datetime, unit: Unit, zone: tzinfo) -> datetime:
    """Return the start of the next mark."""
    if unit is Unit.HOUR:
        return next(start for start in (mark + number * _QUARTER for number in count(1)) if _begins_hour(start, zone))
    day = _FIRST_DAY[unit](mark.astimezone(zone).date() + timedelta(days=_MAX_DAYS[unit]))
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _begins_hour(at: datetime, zone: tzinfo) -> bool:
    """True if the clock shows a full hour at `at`, or moved into another hour in the quarter before.

    An hour that the clock leaves half an hour early and enters again counts once, as in a summary.
    """
    wall, before = at.astimezone(zone), (at - _QUARTER).astimezone(zone)
    return not wall.minute or (wall.date(), wall.hour) != (before.date(), before.hour)


def _utc(moment: datetime) -> datetime:
    """The sort key of times: Python compares times of one zone by wall clock, which misorders an hour shown twice."""
    return moment.astimezone(UTC)


def marks(period: Period, unit: Unit) -> Iterator[Period]:
    """Yield the marks that the period touches, in order. The first and the last may reach beyond the period."""
    zone = period.since.tzinfo or UTC
    mark, end = start(period.since, unit, zone), period.until.astimezone(UTC)
    while mark < end:
        after = following(mark, unit, zone)
        yield Period(mark.astimezone(zone), after.astimezone(zone))
        mark = after


def mark_text(mark: datetime, unit: Unit) -> str:
    """Return a mark's text, such as `8 Mar 14:00`, `Sun 8 Mar`, `week of 2 Mar 2026`, `Mar 2026` or `2026`."""
    return f"{mark:{_FORMATS[unit]}}"


def period_text(period: Period) -> str:
    """Return `30 Oct 2026 to 28 Nov 2026`, the last day included; with times of day if they are not midnights."""
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
    """Parse the parameter, or return None if it is missing."""
    if not (text := args.get(name)):
        return None
    try:
        # All calls end within these limits, and Python can still compute with the period before.
        return max(EARLIEST, min(parse_moment(text, zone), LATEST)).astimezone(zone)
    except ValidationError as error:
        raise Invalid({name: [str(message) for message in error.messages]}) from None


def _checked(period: Period) -> Period:
    if period.since.astimezone(UTC) >= period.until.astimezone(UTC):
        raise Invalid({"until": ["has to be later than since"]})
    return period


def _midnight(local: datetime, days: int = 0) -> datetime:
    """Return the midnight `days` days after the day of `local`."""
    return datetime.combine(local.date() + days * _DAY, time(), local.tzinfo)


def _parameter(moment: datetime) -> str:
    """Return the time for a URL: a bare date for midnight, which is read in the parameter `tz`'s zone."""
    is_midnight = moment == _midnight(moment) and not moment.fold
    return moment.date().isoformat() if is_midnight else moment.isoformat()
