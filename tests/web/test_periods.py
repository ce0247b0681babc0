"""The marks of a chart part any time of any zone, also where clocks change by half an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.pages.periods import Period, Unit, marks, start

ZONES = ["UTC", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kolkata", "Pacific/Chatham"]
CHANGES = [datetime(2026, *day, tzinfo=UTC) for day in ((3, 8), (4, 4), (9, 26), (10, 3), (11, 1))]


@given(
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    near=st.sampled_from(CHANGES),
    begin=st.integers(0, 30 * 60),
    minutes=st.integers(1, 40 * 60),
    unit=st.sampled_from([Unit.HOUR, Unit.DAY]),
)
def test_marks_are_contiguous_and_cover_every_moment(
    zone: ZoneInfo, near: datetime, begin: int, minutes: int, unit: Unit
) -> None:
    since = (near + timedelta(minutes=begin)).astimezone(zone)
    period = Period(since, (since.astimezone(UTC) + timedelta(minutes=minutes)).astimezone(zone))
    found = [*marks(period, unit)]
    ends = [mark.until.astimezone(UTC) for mark in found]
    starts = [mark.since.astimezone(UTC) for mark in found]
    assert starts[1:] == ends[:-1]
    assert starts[0] <= since.astimezone(UTC) < ends[0]
    assert starts[-1] < period.until.astimezone(UTC) <= ends[-1]
    for minute in range(0, minutes, 5):
        moment = since.astimezone(UTC) + timedelta(minutes=minute)
        mark = next(one for one, end in zip(starts, ends, strict=True) if one <= moment < end)
        assert start(moment, unit, zone) == mark


@pytest.mark.parametrize(
    ("zone", "since", "hours"),
    [
        ("America/New_York", datetime(2026, 11, 1, 4, tzinfo=UTC), ["00:00", "01:00", "01:00", "02:00"]),
        ("America/New_York", datetime(2026, 3, 8, 5, tzinfo=UTC), ["00:00", "01:00", "03:00", "04:00"]),
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 13, tzinfo=UTC), ["00:00", "01:00", "02:00", "03:00"]),
    ],
)
def test_an_hour_that_occurs_twice_has_two_marks_and_one_that_is_entered_again_has_one(
    zone: str, since: datetime, hours: list[str]
) -> None:
    local = since.astimezone(ZoneInfo(zone))
    period = Period(local, (since + timedelta(hours=5)).astimezone(ZoneInfo(zone)))
    assert [f"{mark.since:%H:%M}" for mark in marks(period, Unit.HOUR)][:4] == hours


def test_a_part_of_an_hour_that_occurs_twice_lies_in_its_own_half() -> None:
    zone = ZoneInfo("America/New_York")
    whole = Period(*(datetime(2026, 11, 1, hour, tzinfo=UTC).astimezone(zone) for hour in (5, 8)))
    second = Period(*(datetime(2026, 11, 1, hour, tzinfo=UTC).astimezone(zone) for hour in (6, 7)))
    assert second.within(whole) == second
    assert second.within(whole).since.astimezone(UTC) == datetime(2026, 11, 1, 6, tzinfo=UTC)
