"""Quarters of an hour, by number since 1970 in UTC: every zone's offset is a whole number of them.

Roll-ups are kept for spans of 1, 4 and 96 quarters, each beginning at a multiple of its length.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum

from app.store.asking.wallclock import Bucket, Stretch

QUARTER = timedelta(minutes=15)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = EPOCH.toordinal()


class Span(IntEnum):
    """How many quarters one roll-up holds."""

    QUARTER = 1
    HOUR = 4
    DAY = 96

    def of(self, quarter: int) -> int:
        """The first quarter of the span that this one lies in."""
        return quarter - quarter % self


def quarter_of(moment: datetime) -> int:
    return (moment - EPOCH) // QUARTER


def begin(quarter: int) -> datetime:
    return EPOCH + quarter * QUARTER


def pack(moments: Iterable[datetime]) -> bytes:
    """The quarters that these lie in, each once, in four bytes."""
    quarters = sorted({quarter_of(moment) for moment in moments})
    return struct.pack(f">{len(quarters)}i", *quarters)


def unpack(packed: bytes) -> Sequence[int]:
    return struct.unpack(f">{len(packed) // 4}i", packed)


class LocalClock:
    """Which bucket of local time a quarter lies in, as a number that `wall` makes a time of."""

    def __init__(self, clock: Sequence[Stretch], bucket: Bucket) -> None:
        self._bucket = bucket
        self._untils = [quarter_of(one.until) for one in clock[:-1]]
        self._offsets = [one.offset // QUARTER for one in clock]
        self._began = [one.began // timedelta(minutes=1) for one in clock]

    def number(self, quarter: int) -> tuple[int, int]:
        """The bucket's number and, of an hour, the offset in minutes that it began with."""
        at = bisect_right(self._untils, quarter)
        local = quarter + self._offsets[at]
        match self._bucket:
            case Bucket.HOUR:
                return local // Span.HOUR, self._began[at]
            case Bucket.DAY:
                return local // Span.DAY, 0
            case Bucket.WEEK:
                return (local // Span.DAY + 3) // 7, 0  # 1970 began on a Thursday
        day = date.fromordinal(_FIRST_DAY + local // Span.DAY)
        return day.year * 12 + day.month - 1, 0

    def wall(self, number: int) -> datetime:
        """What the clock shows when the bucket begins, without a zone."""
        match self._bucket:
            case Bucket.HOUR:
                return EPOCH.replace(tzinfo=None) + number * timedelta(hours=1)
            case Bucket.DAY:
                return EPOCH.replace(tzinfo=None) + timedelta(days=number)
            case Bucket.WEEK:
                return EPOCH.replace(tzinfo=None) + timedelta(days=number * 7 - 3)
        return datetime(number // 12, number % 12 + 1, 1)


def is_whole(clock: Sequence[Stretch]) -> bool:
    """Whether the clock always stood, and was changed, at a whole number of quarters from UTC."""
    return all(not one.offset % QUARTER for one in clock) and all(
        not (one.until - EPOCH) % QUARTER for one in clock[:-1]
    )
