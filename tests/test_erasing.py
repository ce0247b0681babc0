"""A number is found in whatever form it stands, and no other is taken for it."""

from __future__ import annotations

import gzip
import zlib
from datetime import UTC, datetime
from uuid import uuid4

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import Settings
from app.erasing import _texts_of, finder
from app.model import Delivery

OURS = finder("+16175551234", "US")
ICELAND = finder("+3545551234", "US")
ANDORRA = finder("+376312345", "US")


@pytest.mark.parametrize(
    "text",
    [
        "+16175551234",
        "16175551234",
        "6175551234",
        "tel:+1-617-555-1234;ext=5",
        "(617) 555-1234",
        "1 (617) 555 1234",
        "0016175551234",
        "011 1 617.555.1234",
        "617–555–1234",
        "617\xa0555\xa01234",
        "617  -  555 1234",
        "６１７５５５１２３４",
        "٦١٧٥٥٥١٢٣٤",
        '{"a":6175551234,"b":2}',
        "x617_555_1234x",
        "at 9 6175551234, then",
    ],
)
def test_the_number_is_found_as_people_and_programs_write_it(text: str) -> None:
    assert OURS(text)


@pytest.mark.parametrize(
    "text",
    [
        "+446175551234",
        "+3961755512340",
        "99617555123477",
        "1617555123400",
        "61755512345",
        "26175551234",
        "[6,1,7,5,5,5,1,2,3,4]",
        '["+12126617555","1234"]',
        "617555, 1234",
        "617555a1234",
        "+16175551235",
        "",
    ],
)
def test_no_other_number_is_taken_for_it(text: str) -> None:
    assert not OURS(text)


def test_a_number_of_another_region_needs_its_country_code() -> None:
    assert ICELAND("+354 555 1234")
    assert ICELAND("003545551234")
    assert not ICELAND("+13105551234")
    assert not ICELAND("555-1234")
    assert ANDORRA("+376 312 345")
    assert not ANDORRA("312345")


def test_a_trunk_prefix_of_the_region_is_no_other_number() -> None:
    ours = finder("+442079460018", "GB")
    assert ours("020 7946 0018")
    assert ours("+44 (0)20 7946 0018")
    assert not ours("120 7946 0018 5")


numbers = (
    st.integers(2_010_000_000, 9_899_999_999)
    .map(lambda number: f"+1{number}")
    .filter(lambda text: phonenumbers.is_valid_number(phonenumbers.parse(text)))
)


@given(mine=numbers, other=numbers)
def test_of_two_numbers_each_finds_itself_alone(mine: str, other: str) -> None:
    has_mine = finder(mine, "US")
    parsed = phonenumbers.parse(mine)
    for form in (
        phonenumbers.PhoneNumberFormat.E164,
        phonenumbers.PhoneNumberFormat.INTERNATIONAL,
        phonenumbers.PhoneNumberFormat.NATIONAL,
        phonenumbers.PhoneNumberFormat.RFC3966,
    ):
        assert has_mine(phonenumbers.format_number(parsed, form))
    assert has_mine(other) == (mine == other)


def test_a_body_that_inflates_to_too_much_is_searched_up_to_the_limit() -> None:
    settings = Settings(max_body_bytes=1000)
    body = gzip.compress(b"phone=6175551234" + b" " * 100_000)
    sent = Delivery(uuid4(), "i", datetime(2026, 3, 8, tzinfo=UTC), body, headers=(("Content-Encoding", "gzip"),))
    assert any(map(OURS, _texts_of(settings)(sent)))
    other = sent._replace(body=gzip.compress(b" " * 100_000))
    assert not any(map(OURS, _texts_of(settings)(other)))


@pytest.mark.parametrize(
    "body",
    [
        "(617) 555-1234".encode("utf-16"),
        "(617) 555-1234".encode("utf-32-be"),
        "617–555–1234".encode(),
        "٦١٧٥٥٥١٢٣٤".encode(),
        b"\xff 617\xa0555\xa01234",
        gzip.compress(b"phone=6175551234", mtime=0),
        gzip.compress(b"phone=6175551234" + bytes(range(256)) * 40, mtime=0)[:-9],
        zlib.compress(b"phone=6175551234"),
        b"p=%2B1%20617%2D555%2D1234",
        b"p=%252B16175551234",
    ],
    ids=range(10),
)
def test_a_body_is_searched_in_any_content_coding(body: bytes) -> None:
    sent = Delivery(id=uuid4(), integration="i", received_at=datetime(2026, 3, 8, tzinfo=UTC), body=body)
    assert any(map(OURS, _texts_of(Settings())(sent)))
