"""What may be asked, and how a question that cannot be put is answered."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from app.web.errors import Forbidden, Invalid
from app.web.filters import cursor, question
from app.web.schemas import OutcomeSchema

NAMES = [*OutcomeSchema(reveal=True).fields, "since", "until", "tz", "sort", "limit", "cursor", "count", "nobody"]
VALUES = st.sampled_from(
    ["completed", "1", "-1", "true", "2026-03-08", "9999-12-31T23:59:59-23:59", "x,y", "US/Eastern"]
)


def ask(*pairs: tuple[str, str], reveal: bool = True):
    return question(MultiDict(pairs), OutcomeSchema(reveal=reveal), "ended_at")


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES | st.text(max_size=12)), max_size=4))
def test_any_query_is_a_question_or_errors_that_name_what_is_wrong(pairs) -> None:
    errors = {}
    try:
        ask(*pairs)
    except Invalid as invalid:
        errors = invalid.errors
    assert set(errors) <= {name for name, _ in pairs}
    assert all(texts and all(texts) for texts in errors.values())


def test_commas_part_values_and_a_repeated_parameter_holds_them_whole() -> None:
    assert ask(("batch", "a,b")).equal == {"batch": ["a", "b"]}
    assert ask(("batch", "a,b"), ("batch", "c")).equal == {"batch": ["a,b", "c"]}


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2026-03-08", None, "2026-03-08T00:00:00+00:00"),
        ("2026-03-08", "America/New_York", "2026-03-08T05:00:00+00:00"),
        ("2026-03-09", "America/New_York", "2026-03-09T04:00:00+00:00"),
        ("2026-03-08T12:30:00Z", "America/New_York", "2026-03-08T12:30:00+00:00"),
        ("2026-03-08T12:30:00 02:00", None, "2026-03-08T10:30:00+00:00"),
    ],
)
def test_a_time_without_offset_is_local_in_the_zone_asked_for(text, zone, moment) -> None:
    pairs = [("since", text), ("queued_at", text)] + ([("tz", zone)] if zone else [])
    asked = ask(*pairs)
    assert asked.since == asked.equal["queued_at"][0] == datetime.fromisoformat(moment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "complete"),
        ("attempts", "-1"),
        ("attempts", "99999999999"),
        ("possible_duplicate", "yes"),
        ("id", "1"),
        ("ended_at", "yesterday"),
        ("events", "queued"),
        ("extra", "{}"),
        ("limit", "0"),
        ("limit", "1001"),
        ("sort", "phone_number"),
        ("tz", "Mars/Olympus"),
        ("tz", "../../etc/passwd"),
        ("cursor", "abc"),
        ("count", "guess"),
        ("nobody", "1"),
    ],
)
def test_what_is_wrong_is_named(name, value) -> None:
    with pytest.raises(Invalid) as refusal:
        ask((name, value))
    assert list(refusal.value.errors) == [name]


@pytest.mark.parametrize("name", ["phone_number", "phone_number_raw"])
def test_masked_numbers_cannot_be_found_by_asking_for_them(name) -> None:
    with pytest.raises(Forbidden):
        ask((name, "+16175551234"), reveal=False)
    assert ask((name, "+16175551234")).equal == {name: ["+16175551234"]}


def test_a_phone_number_whose_plus_was_not_escaped_is_found() -> None:
    assert ask(("phone_number", " 16175551234")).equal == {"phone_number": ["+16175551234"]}


def test_a_cursor_belongs_to_its_order() -> None:
    mark = cursor("after", "-ended_at", datetime(2026, 3, 8, tzinfo=UTC), UUID(int=5))
    assert ask(("cursor", mark)).after.id == UUID(int=5)
    with pytest.raises(Invalid):
        ask(("cursor", mark), ("sort", "ended_at"))
