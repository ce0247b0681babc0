"""What `read` may see: of no run of seven digits more than the last four, wherever it stands."""

from __future__ import annotations

import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.exports.cells import json_text
from app.masking import _NUMERALS_END, _is_numeral, mask_digits, mask_headers, mask_json, mask_query, masked, masks

NUMBER = "6175551234"


# --- the rule, once more: character by character


def by_hand(text: str) -> str:
    shown, at = "", 0
    while at < len(text):
        run = run_from(text, at)
        if len(run) < 7:
            shown += text[at]
            at += 1
        else:
            shown += "•••" + "".join(text[place] for place in run[-4:])
            at = run[-1] + 1
    return shown


def run_from(text: str, at: int) -> list[int]:
    """Where the digits stand, of which each follows the one before after at most three others."""
    run, between = [], 0
    for place in range(at, len(text)):
        if text[place].isdecimal():
            run.append(place)
            between = 0
        elif not run or text[place].isalpha() or between == 3:
            break
        else:
            between += 1
    return run


def json_by_hand(value):
    """Of what is neither list nor object."""
    if isinstance(value, str):
        return by_hand(value)
    written = json.dumps(value)
    return value if by_hand(written) == written else by_hand(written)


digits = st.text("0123456789", min_size=1, max_size=9) | st.text("0٣९５𝟗", min_size=1, max_size=4)
between = st.text(" -+().,:/%_•½²aé文\n\u200b\u0301", max_size=5)
texts = st.lists(digits | between, max_size=12).map("".join) | st.text()
numbers = st.integers() | st.integers(-(10**40), 10**40) | st.floats()
plain = st.none() | st.booleans() | numbers | texts
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=12)


@given(texts)
def test_a_text_is_masked_by_the_rule_and_by_nothing_else(text) -> None:
    shown = mask_digits(text)
    assert shown == by_hand(text)
    assert mask_digits(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1234567", "•••4567"),
        ("123456", "123456"),
        ("1 - 2 - 3 - 4 - 5 - 6 - 7", "•••4567"),
        ("1   2   3   4   5   6   7   8", "•••5678"),
        ("123    4567", "123    4567"),
        ("12345a67890", "12345a67890"),
        ("123½4567", "•••4567"),
        ("1ⅧⅨ²234567", "•••4567"),
        ("123_4567", "•••4567"),
        ("a1234567b1234568", "a•••4567b•••4568"),
        ("٦١٧٥٥٥١٢٣٤", "•••١٢٣٤"),
        ("call +1 (617) 555-1234 now", "call +•••1234 now"),
        ("2026-03-08T14:30:00Z", "•••0308T14:30:00Z"),
        ("1772539200", "•••9200"),
        ("tel:+16175551234;ani=8009957586", "tel:+•••1234;ani=•••7586"),
    ],
)
def test_each_run_of_seven_digits_keeps_its_last_four_whatever_it_means(text, shown) -> None:
    assert mask_digits(text) == by_hand(text) == shown


def test_all_numerals_are_among_the_characters_that_are_tried() -> None:
    assert not any(_is_numeral(chr(code)) for code in range(_NUMERALS_END, sys.maxunicode + 1))


# --- the two phone fields


def test_the_ends_of_a_number_stay() -> None:
    record = {"phone_number": f"+1{NUMBER}", "phone_number_raw": f"tel:+1{NUMBER};"}
    assert masked(record) == {"phone_number": "+1617•••1234", "phone_number_raw": "•••1234"}


def test_null_stays_null() -> None:
    nothing = dict.fromkeys(masks())
    assert masked(nothing) == {name: mask(None) for name, mask in masks().items()} == nothing


@pytest.mark.parametrize("number", ["+2901234", "+29012345", "+390612"])
def test_a_short_number_is_not_given_away_by_its_two_ends(number) -> None:
    assert masked({"phone_number": number}) == {"phone_number": f"•••{number[-4:]}"}


@given(texts)
def test_of_a_phone_as_sent_the_last_four_digits_stay(text) -> None:
    last = [character for character in text if character in "0123456789"][-4:]
    assert masked({"phone_number_raw": text})["phone_number_raw"] == "•••" + "".join(last)


# --- JSON


def assert_masked(value, shown) -> None:
    """Each text, name and number by itself, each in its place."""
    if isinstance(value, list):
        assert isinstance(shown, list)
        for item, item_shown in zip(value, shown, strict=True):
            assert_masked(item, item_shown)
    elif isinstance(value, dict):
        assert isinstance(shown, dict)
        for name, name_shown in zip(value, shown, strict=True):
            ends = by_hand(name)
            assert re.fullmatch(re.escape(ends) + r"( \(\d+\))?", name_shown)
            assert_masked(value[name], shown[name_shown])
    else:
        assert repr(shown) == repr(json_by_hand(value))


@given(values)
def test_json_keeps_its_structure_and_every_value(value) -> None:
    assert_masked(value, mask_json(value))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (6175551234, "•••1234"),
        (-1234567, "-•••4567"),
        (999999, 999999),
        (16175551234.0, "•••2340"),
        (-40.712812, "-•••2812"),
        (1.5, 1.5),
        (1.2345678e-10, "•••5678e-10"),
        (1e308, 1e308),
        (10**400 + 1234, "•••1234"),
        (True, True),
        (None, None),
    ],
)
def test_a_number_of_which_digits_are_hidden_becomes_a_text(value, shown) -> None:
    assert repr(mask_json([value])) == repr([shown])


def test_names_with_equal_masks_stay_distinct() -> None:
    names = {"6175551234": 1, "(617) 555-1234": 2, "•••1234": 3, "•••1234 (2)": 4, "home": 5}
    shown = ["•••1234", "(•••1234", "•••1234 (2)", "•••1234 (2) (2)", "home"]
    assert list(mask_json({"phones": names})["phones"].items()) == list(zip(shown, names.values(), strict=True))


# --- what is escaped


@given(texts, st.data())
def test_a_query_is_masked_decoded_and_shown_so_where_something_is_hidden(text, data) -> None:
    escapes = {character: "".join(f"%{byte:02X}" for byte in character.encode()) for character in set(text)}
    plain = data.draw(st.sets(st.sampled_from(sorted(escapes.keys() - {"%"}) or [""])))
    query = "".join(character if character in plain else escapes[character] for character in text)
    assert mask_query(query) == (query if by_hand(text) == text else by_hand(text))


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (f"caller=%20{NUMBER}&a=%31", "caller= •••1234&a=1"),
        ("caller=617%2D555%2D1234", "caller=•••1234"),
        ("caller=617+555+1234", "caller=•••1234"),
        ("caller=%36%31%37555%31234", "caller=•••1234"),
        ("caller=617%E9555%E91234", "caller=•••1234"),
        ("a=%31&b=c+d&c=%20%20%20%20", "a=%31&b=c+d&c=%20%20%20%20"),
        ("", ""),
    ],
)
def test_a_phone_in_a_query_is_masked_however_it_was_escaped(query, shown) -> None:
    assert masked({"query": query}) == {"query": shown}


@pytest.mark.parametrize("spelling", [NUMBER, "(617) 555-1234", "617%2D555%2D1234", "%36%31%37%35%35%35%31%32%33%34"])
@pytest.mark.parametrize("header", ["https://a.example/c?phone={}&x=1", "{}", "/result/(key)/call/{}"])
def test_a_number_in_a_header_is_masked_however_it_was_escaped(spelling, header) -> None:
    headers = [["Referer", header.format(spelling)], [f"X-{NUMBER}", "x"], ["Accept", "*/*"]]
    [[_, referer], *others] = masked({"headers": headers})["headers"]
    assert "617555" not in re.sub(r"\D", "", referer)
    assert "•••1234" in referer
    assert others == [["X-•••1234", "x"], ["Accept", "*/*"]]


@given(st.lists(st.tuples(texts, texts)))
def test_no_seven_digits_in_a_row_are_shown_in_any_header(headers) -> None:
    for header in mask_headers(headers):
        assert [by_hand(text) for text in header] == header


def test_escaped_digits_in_a_header_are_masked() -> None:
    assert mask_headers([["X-Call", "61755%51234"], ["X-Odd", "61755%51%32"]]) == [
        ["X-Call", "•••1234"],
        ["X-Odd", "•••5132"],
    ]


# --- a field alone, and hostile ones


headers = st.lists(st.lists(texts, min_size=2, max_size=2))
problems = st.lists(st.fixed_dictionaries({"field": texts, "value": values, "problem": st.just("not_text")}))


@given(st.dictionaries(texts, values, max_size=4), problems, headers, texts)
def test_a_column_by_itself_is_masked_as_within_its_record(extra, problems, headers, query) -> None:
    record = {"id": 12345678, "extra": extra, "problems": problems, "headers": headers, "query": query}
    shown = masked(record)
    assert shown["id"] == record["id"]
    assert repr([shown["extra"], shown["problems"]]) == repr(
        mask_json([extra, problems])
    )  # NaN is not equal to itself
    for name in ("extra", "problems", "headers"):
        assert masks()[name](json_text(record[name])) == json_text(shown[name])
    assert masks()["query"](query) == shown["query"]


LONG = {
    "digits": ("1" * 10**6, "•••1111"),
    "three between": ("1---" * 250_000, "•••1111---"),
    "four between": ("1----" * 200_000, "1----" * 200_000),
    "six": ("1--2--3--4--5--6--x" * 50_000, "1--2--3--4--5--6--x" * 50_000),
    "seven": ("1234567x" * 125_000, "•••4567x" * 125_000),
    "no digits": ("-" * 10**6, "-" * 10**6),
    "escapes": ("%31" * 330_000, "%•••3131"),
}


@pytest.mark.parametrize("name", LONG)
def test_a_megabyte_is_masked_like_a_line(name) -> None:
    text, shown = LONG[name]
    assert mask_digits(text) == shown
    assert mask_json({text: text}) == {shown: shown}


def test_a_megabyte_of_escapes_is_masked_like_a_line() -> None:
    assert mask_query("%31" * 330_000) == "•••1111"
    assert mask_query("%31x" * 250_000) == "%31x" * 250_000
    assert mask_headers([["Referer", "%31" * 330_000]]) == [["Referer", "•••1111"]]


def test_a_megabyte_of_json_loses_no_value() -> None:
    alike = {f"{number:07}1234": number for number in range(50_000)}
    assert list(mask_json(alike).values()) == list(range(50_000))
    told_apart = {f"•••1234 ({number})": number for number in range(2, 40_000)} | alike
    assert sorted(mask_json(told_apart).values()) == sorted(told_apart.values())
    assert mask_json([6_175_551_234] * 90_000) == ["•••1234"] * 90_000


def test_json_as_deep_as_a_body_may_be_is_masked() -> None:
    deep, shown = NUMBER, "•••1234"
    for _ in range(66):
        deep, shown = {NUMBER: [deep]}, {"•••1234": [shown]}
    assert mask_json(deep) == shown
