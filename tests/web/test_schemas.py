"""What `read` may see: no phone number whole, wherever it stands."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.schemas import mask_e164, masked

NUMBER = "6175551234"
SPELLINGS = [
    NUMBER,
    f"+1{NUMBER}",
    "(617) 555-1234",
    "617.555.1234",
    f"tel:+1{NUMBER};ani=8009957586",
    f"call {NUMBER} now",
]


def record(**fields):
    return {"phone_number": f"+1{NUMBER}", "phone_number_raw": NUMBER, "extra": {}, "problems": []} | fields


def masked_us(whole):
    return masked(whole, "US")


def digits(value) -> str:
    return re.sub(r"\D", "", json.dumps(value))


def test_the_ends_of_a_number_stay() -> None:
    shown = masked_us(record())
    assert (shown["phone_number"], shown["phone_number_raw"]) == ("+1617•••1234", "•••1234")
    assert mask_e164(None) is None


@pytest.mark.parametrize("number", ["+2901234", "+29012345", "+390612"])
def test_a_short_number_is_not_given_away_by_its_two_ends(number) -> None:
    assert mask_e164(number) == f"•••{number[-4:]}"


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", ["phone_number", "callback", "note"])
def test_a_phone_in_extra_or_problems_shows_its_last_four_digits_only(name, spelling) -> None:
    shown = masked_us(
        record(
            extra={name: [spelling, {"x": spelling}], spelling: 1},
            problems=[{"field": name, "value": spelling, "problem": "given_twice"}],
        )
    )
    assert "617555" not in digits(shown["extra"])
    assert "617555" not in digits(shown["problems"])


def test_a_number_sent_as_an_integer_is_masked_too() -> None:
    shown = masked_us(
        record(extra={"n": int(NUMBER)}, problems=[{"field": "phone_number", "value": [int(NUMBER)], "problem": "p"}])
    )
    assert "617555" not in digits(shown)[4:]


def test_what_is_no_phone_stays_as_it_is() -> None:
    extra = {"when": "2026-03-08", "count": 12, "flag": True, "none": None, "id": "a1b2c3"}
    assert masked_us(record(extra=extra))["extra"] == extra


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_any_extra_can_be_masked(value) -> None:
    assert json.dumps(
        masked_us(record(extra={"x": value}, problems=[{"field": "f", "value": value, "problem": "p"}]))
    )


def test_a_number_that_is_a_name_within_a_phone_field_is_masked_too() -> None:
    shown = masked_us(record(problems=[{"field": "phone_number", "value": {NUMBER: [1]}, "problem": "not_text"}]))
    assert "617555" not in digits(shown["problems"])


def test_a_number_sent_with_a_fraction_is_masked_too() -> None:
    assert masked_us(record(extra={"n": 16175551234.0}))["extra"] == {"n": "•••1234"}


def test_national_numbers_are_told_by_the_region_that_is_set() -> None:
    assert masked(record(extra={"note": "call 020 7946 0958"}), "GB")["extra"] == {"note": "call •••0958"}
