"""A compressed body is read as what it holds, within bounds; the bytes stay as sent."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from datetime import UTC, datetime
from uuid import UUID

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.interpret import interpret
from app.model import Delivery, Reading

BODY = b"result=Completed&call_id=1"
LIMIT = 1000


def raw_deflate(body: bytes) -> bytes:
    return zlib.compress(body, wbits=-zlib.MAX_WBITS)


CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    " GZip ": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "br": brotli.compress,
    "identity": bytes,
    "gzip, br": lambda body: brotli.compress(gzip.compress(body)),
    "br,identity, deflate": lambda body: zlib.compress(brotli.compress(body)),
}


def read(body: bytes, *codings: str, limit: int = LIMIT) -> Reading:
    headers = tuple(("Content-Encoding", coding) for coding in codings)
    key = UUID(int=7)
    delivery = Delivery(id=key, integration="i", received_at=datetime(2026, 1, 1, tzinfo=UTC), body=body)
    return interpret(delivery._replace(headers=headers), max_body_bytes=limit)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_body_is_read_and_kept_as_sent(coding) -> None:
    sent = CODINGS[coding](BODY)
    reading = read(sent, coding)
    assert reading.outcome.call_id == "1"
    assert reading.delivery.body == sent


def test_codings_may_stand_in_several_headers_of_any_case() -> None:
    sent = brotli.compress(gzip.compress(BODY))
    reading = read(sent, "gzip", "br")
    shouted = tuple((name.upper(), value) for name, value in reading.delivery.headers)
    assert interpret(reading.delivery._replace(headers=shouted)).outcome == reading.outcome
    assert reading.outcome.call_id == "1"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, br", "zstd", "utf-8"])
def test_a_body_that_is_not_compressed_is_read_in_spite_of_its_header(coding) -> None:
    assert read(BODY, coding).outcome.call_id == "1"
    assert read(b'{"status":"completed","attempts":1}', coding).outcome.attempts == 1


@pytest.mark.parametrize("coding", ["gzip", "deflate", "Deflate", "br", "gzip, br"])
def test_a_body_that_does_not_inflate_is_quarantined_as_such(coding) -> None:
    assert read(CODINGS[coding](BODY)[:-3], coding).reason == "not_inflated"
    assert read(b"\x00\xff no such thing", coding).reason == "not_inflated"


def test_an_inflated_body_that_does_not_parse_has_its_own_reason() -> None:
    assert read(gzip.compress(b'{"status":'), "gzip").reason == "not_json"
    assert read(gzip.compress(b""), "gzip").reason == "empty"


def test_gzip_of_many_members_is_read_whole() -> None:
    assert read(gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]), "gzip").outcome.call_id == "1"
    assert read(gzip.compress(BODY) + gzip.compress(b"x")[:-2], "gzip").reason == "not_inflated"


@pytest.mark.parametrize("behind", [b"\x00" * 512, b"\r\n", b"garbage"])
def test_bytes_behind_a_complete_gzip_are_ignored(behind) -> None:
    assert read(gzip.compress(BODY) + behind, "gzip").outcome.call_id == "1"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "Deflate", "br", "gzip, br"])
def test_a_body_may_inflate_to_sixteen_times_the_limit_and_no_more(coding) -> None:
    fill = 16 * LIMIT - len(BODY) - 1
    assert read(CODINGS[coding](BODY + b"&" + b"x" * fill), coding).outcome.call_id == "1"
    assert read(CODINGS[coding](BODY + b"&" + b"x" * (fill + 1)), coding).reason == "too_large"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "Deflate", "br", "gzip, br", "br,identity, deflate"])
def test_a_bomb_is_not_inflated_beyond_the_limit(coding) -> None:
    bomb = CODINGS[coding](bytes(100_000_000))
    tracemalloc.start()
    try:
        assert read(bomb, coding).reason == "too_large"
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_codings_around_codings_without_end_are_not_undone() -> None:
    assert read(gzip.compress(BODY), *["gzip"] * 1000).reason == "not_inflated"


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "br", "gzip, br", "gzip,,br;q=1", "\x00"]))
def test_any_bytes_under_any_coding_give_a_reading(body, coding) -> None:
    for sent in (body, gzip.compress(body), brotli.compress(body), zlib.compress(body)):
        reading = read(sent, coding)
        assert reading.reason or reading.outcome
        assert reading.reason != "not_understood"


@pytest.mark.parametrize("value", [b"ab&", b"{},", b"<a/>", b"ab=%31&", b"a\n", b"a="])
def test_a_body_that_inflates_to_millions_of_values_is_kept_unread(value) -> None:
    """Reading it takes seconds of the event loop, for which a few kilobytes suffice."""
    reading = read(gzip.compress(value * 2_000_000), "gzip", limit=1 << 20)
    assert (reading.outcome, reading.reason) == (None, "too_large")


@pytest.mark.parametrize("coding", [zlib.compress, raw_deflate])
def test_a_line_end_behind_deflated_data_is_ignored(coding) -> None:
    assert read(coding(b"result=Completed") + b"\r\n", "deflate").reason is None
