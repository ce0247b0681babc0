"""What `read` may see: no phone number whole, wherever it stands."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.masking import mask_e164, masked, masks

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


@pytest.mark.parametrize(
    "text",
    [
        f"{NUMBER} 8009957586",
        f"2026-03-08 {NUMBER}",
        f"call {NUMBER}/8009957586",
        f"{NUMBER}\n8009957586",
        "617\u2013555\u20131234",
        f"id 12345 {NUMBER}",
        f"{'1 ' * 2000}{NUMBER}",
    ],
)
def test_a_phone_among_other_digits_is_masked_too(text) -> None:
    shown = masked_us(record(extra={"note": text}))["extra"]["note"]
    assert not re.search(r"555\D*1234|995\D*7586", shown)


@pytest.mark.parametrize(
    "query",
    [
        f"caller=%20{NUMBER}",
        "caller=%28617%29%20555-1234",
        "caller=617%2D555%2D1234",
        f"phones={NUMBER}%208009957586",
        f"phones={NUMBER}+8009957586",
        "caller=617+555+1234",
        "caller=%36%31%37555%31234",
    ],
)
def test_a_phone_in_a_query_is_masked_however_it_was_escaped(query) -> None:
    shown = masks("US")["query"](query)
    assert not re.search(r"555\D*1234|995\D*7586", shown)
    assert masks("US")["query"]("a=%31&b=c+d") == "a=%31&b=c+d"


def test_a_number_of_any_length_can_be_masked() -> None:
    shown = masked_us(record(extra={"zz": 10**400, "mobile": 10**400, "ratio": 1e308}))["extra"]
    assert shown == {"zz": 10**400, "mobile": "•••0000", "ratio": 1e308}
