"""Single values, judged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.values import EARLIEST, LATEST, BadValue, time

DATE = "Mon, 01 Jan {} 00:00:00 +0000"


@pytest.mark.parametrize(
    "year", ["0001", "0004", "0055", "0099", "055", "104", "999", "1904", "9999", "50", "55", "99"]
)
def test_a_year_that_no_call_is_of_is_no_time(year) -> None:
    with pytest.raises(BadValue, match="not_a_time"):
        time(DATE.format(year))


@pytest.mark.parametrize("years", range(50))
def test_a_year_of_two_digits_to_49_is_of_this_century(years) -> None:
    assert time(DATE.format(f"{years:02}")) == datetime(2000 + years, 1, 1, tzinfo=UTC)


def test_the_year_is_judged_in_utc() -> None:
    assert time("Fri, 31 Dec 99 23:30:00 -0400") == datetime(2000, 1, 1, 3, 30, tzinfo=UTC)
    assert time("Fri, 01 Jan 2100 04:00:00 +0400") == LATEST
    for text in (
        "Fri, 01 Jan 2000 00:00:00 +0100",
        "Fri, 01 Jan 2100 00:00:01 +0000",
        "Fri, 31 Dec 9999 23:00:00 -0400",
    ):
        with pytest.raises(BadValue, match="not_a_time"):
            time(text)


@given(st.datetimes(datetime(100, 1, 2), datetime(9999, 12, 30)), st.integers(-23, 23))
def test_a_time_is_read_as_it_was_written_or_not_at_all(moment, hours) -> None:
    sent = moment.replace(microsecond=0, tzinfo=timezone(timedelta(hours=hours)))
    if EARLIEST <= sent <= LATEST:
        assert time(format_datetime(sent)) == sent
    else:
        with pytest.raises(BadValue):
            time(format_datetime(sent))
