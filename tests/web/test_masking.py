"""What `read` may see: no phone number whole, wherever it stands."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.exports.cells import json_text
from app.web.masking import mask_digits, mask_e164, mask_headers, masked, masks

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


def shown_of(value):
    return masked_us(record(extra={"v": value}))["extra"]["v"]


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


@pytest.mark.parametrize(
    "text",
    [
        "5555551234",
        "(555) 555-1234",
        "dialled 5555551234 twice",
        "555-555-1234, 555-555-1235",
        "5555551234 2",
        "1. (555) 555-1234",
        "15555551234",
        "0044 5555 551234",
        "+44 5555 551234",
        "+1 55 55 55 12 34",
        "%28555%29%20555-1234",
        "555%555%1234",
        "sip:5555551234@10.100.200.100:5060",
    ],
)
def test_a_number_that_a_record_takes_is_masked_though_nobody_can_have_it(text) -> None:
    assert "555" not in shown_of(text)
    assert "•••1234" in shown_of(text)


@pytest.mark.parametrize("text", ["00442079460958", "442079460958", "44 20 7946 0958", "442079460958.", 442079460958])
def test_a_number_with_its_countrys_code_needs_no_plus_to_be_masked(text) -> None:
    assert str(shown_of(text)).startswith("•••0958")


@pytest.mark.parametrize(
    "between", [*"_,·|:*~/\n\u200b\u2027", ", ", " | ", "%20", "\u200b \u200b", "%20%20", "   \n  "]
)
def test_whatever_stands_between_the_groups_of_a_number_it_is_masked(between) -> None:
    assert shown_of(f"call {between.join(['617', '555', '1234'])} now") == "call •••1234 now"
    assert shown_of(between.join(["+1", "617", "555", "1234"])) == "•••1234"


@given(
    st.from_regex(r"\A[2-9][0-9]{9}\Z"),
    st.lists(
        st.text(st.characters(categories=["P", "S", "Z", "Cf"], exclude_characters="%"), max_size=3),
        min_size=2,
        max_size=2,
    ),
    st.sampled_from(["", "call ", "2026-03-08 14:00 ", "(", "tel:", "x=", "12 ", "1,2,"]),
    st.sampled_from(["", " now", ")", ";ani=1", " 2026-03-08", "\n", ", 12"]),
)
def test_no_full_number_is_shown_however_it_is_written(number, between, before, after) -> None:
    written = number[:3] + between[0] + number[3:6] + between[1] + number[6:]
    assert number not in re.sub(r"\D", "", shown_of(f"{before}{written}{after}"))


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-08 14:00",
        "2026-03-08T14:00:00Z",
        "at 2026-03-08T14:00:00.123456+00:00",
        "1. 2026-03-08 14:00:00-0500",
        "2026-03-08/2026-03-09",
        "14:59:59.123456",
        "20260308T140000Z",
        "Sun, 08 Mar 2026 14:00:00 +0000",
        "Sun Mar  8 14:00:00 2026",
        "3/8/2026 14:30",
        "14:30, 28.03.2026",
        "08.03.2026 14:00 - 09.03.2026 15:00",
        "1772539200",
        "1772539200,1772539260",
        1772539200,
        1772539200123,
        5555551234,
        "12,345,678.90",
        "$1,234,567,890.00",
        "62.50, 75.00, 12.34, 99.99",
        "40.7128, -74.0060",
        "192.168.10.20",
        "10.100.200.100:5060",
        "61755512-3400-4000-8000-617555123400",
        "0195e1a2-3b4c-7d5e-8f60-6175551234ab",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934c6175551234b7852b",
    ],
)
def test_times_ids_sums_and_addresses_stay(value) -> None:
    assert shown_of(value) == value


def test_of_numbers_that_overlap_nothing_between_their_ends_is_shown() -> None:
    assert shown_of("617 234 5617 555 1234") == "•••1234"


MANY = {
    "groups": "1/2/3/4/5/6/7/8/9 x" * 50_000,
    "texts": ["1234567 8"] * 80_000,
    "phones": [f"+1617{2_000_000 + at}" for at in range(90_000)],
    "digits": "1 " * 500_000,
    "short": "1 2 3 4 5 6 x" * 70_000,
    "numbers": [6172000000 + at for at in range(90_000)],
    "names": {f"{at}x {6172000000 + at}": 1 for at in range(50_000)},
}


@pytest.mark.parametrize("name", MANY)
def test_however_many_numbers_a_record_holds_masking_it_takes_no_time(name) -> None:
    began = time.process_time()
    shown = shown_of(MANY[name])
    assert time.process_time() - began < 0.5  # unbounded it is up to 20 s
    assert not re.search(r"\d{8}", json_text(shown))


def test_what_is_not_looked_at_for_want_of_time_is_hidden() -> None:
    shown = shown_of([*MANY["texts"], f"call {NUMBER} now", 6175551234, "busy", 12])
    assert shown[-4:] == ["call ••• now", "•••", "busy", 12]


def test_each_field_is_masked_by_itself() -> None:
    problem = {"field": "note", "value": f"call {NUMBER}", "problem": "p"}
    shown = masked_us(record(extra={"v": MANY["texts"]}, problems=[problem]))
    assert shown["problems"] == [problem | {"value": "call •••1234"}]


def test_callee_types_that_contradict_are_shown() -> None:
    problem = {"field": "callee_type", "value": "busy", "problem": "contradicts_result"}
    whole = record(extra={"callee_type": ["busy", "voice2"]}, problems=[problem])
    assert masked_us(whole) == whole | {"phone_number": "+1617•••1234", "phone_number_raw": "•••1234"}


def test_under_a_phones_name_only_what_holds_a_digit_is_masked() -> None:
    extra = {"caller": {"name": "Bob", "city": ["Rome", ""], "line": "555-1234", "at": 5551234}, "fax": None}
    shown = {"caller": {"name": "Bob", "city": ["Rome", ""], "line": "•••1234", "at": "•••1234"}, "fax": None}
    assert masked_us(record(extra=extra))["extra"] == shown


def test_names_that_mask_alike_are_told_apart() -> None:
    names = {"6175551234": 1, "(617) 555-1234": 2, "•••1234": 3, "•••1234 (2)": 4, "home": 5}
    assert sorted(masked_us(record(extra=names))["extra"].values()) == [1, 2, 3, 4, 5]
    [phones] = masked_us(record(extra={"phones": names}))["extra"].values()
    assert list(phones) == ["•••1234", "•••1234 (2)", "•••1234 (3)", "•••1234 (2) (2)", "home"]


written = st.sampled_from([*SPELLINGS, "5555551234", "2026-03-08 14:00", "1772539200", "1,2,3"]) | st.text(max_size=9)
nested = st.recursive(
    written | st.integers() | st.none(),
    lambda v: st.lists(v) | st.dictionaries(written | st.just("phone"), v),
    max_leaves=9,
)


@given(st.dictionaries(written, nested, max_size=4))
def test_a_column_by_itself_is_masked_as_within_its_record(extra) -> None:
    problems = [{"field": name, "value": value, "problem": "p"} for name, value in extra.items()]
    shown = masked_us(record(extra=extra, problems=problems))
    for name in ("extra", "problems"):
        assert masks("US")[name](json_text({"extra": extra, "problems": problems}[name])) == json_text(shown[name])


@pytest.mark.parametrize(
    "spelling", [*SPELLINGS, "617%2D555%2D1234", "%36%31%37%35%35%35%31%32%33%34", "(617)+555+1234"]
)
@pytest.mark.parametrize("header", ["https://a.example/c?phone={}&x=1", "{}", "/result/(key)/call/{}"])
def test_a_number_in_a_header_is_masked_however_it_was_escaped(spelling, header) -> None:
    headers = [["Referer", header.format(spelling)], [f"X-{NUMBER}", "x"], ["Accept", "*/*"]]
    shown = masked_us(record(headers=headers))["headers"]
    assert "617555" not in digits(shown)
    assert shown[0][1].count("•••") >= 1
    assert shown[1:] == [["X-•••1234", "x"], ["Accept", "*/*"]]
    assert json.loads(masks("US")["headers"](json_text(headers))) == shown


@given(st.lists(st.tuples(st.text(), st.text() | st.from_regex(r"[0-9 %+.-]{0,30}", fullmatch=True))))
def test_no_seven_digits_in_a_row_are_shown_in_any_header(headers) -> None:
    for name, value in mask_headers(headers):
        for text in (name, value):
            assert not re.search(r"\d(?:[\W_]{0,3}\d){6}", text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1234567", "•••4567"),
        ("123456", "123456"),
        ("1 - 2 - 3 - 4 - 5 - 6 - 7", "•••4567"),
        ("123    4567", "123    4567"),
        ("12345a67890", "12345a67890"),
        ("a1234567b1234568", "a•••4567b•••4568"),
        ("٦١٧٥٥٥١٢٣٤", "•••١٢٣٤"),
    ],
)
def test_each_run_of_seven_digits_keeps_its_last_four(text, shown) -> None:
    assert mask_digits(text) == shown
