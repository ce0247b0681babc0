"""Bodies in strange dress: wrapped JSON, forms out of HTML, XML with attributes, numbers as written, bombs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import quote, quote_plus, urlencode
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.interpret import interpret
from app.model import Delivery, Product, Reading
from app.normalise import same_reading
from app.products.duplicate_keys import MAX_VALUES, MORE
from app.store.types import to_json

FIELDS = {"status": "completed", "attempts": 1, "note": 'a=b&c "d" 100% +1 é'}
OBJECT = json.dumps(FIELDS)


def read(body: str | bytes, content_type: str | None = None, product: Product | None = None) -> Reading:
    raw = body.encode() if isinstance(body, str) else body
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    delivery = Delivery(id=UUID(int=7), integration="i", received_at=moment, body=raw, product=product)
    return interpret(delivery._replace(content_type=content_type))


def multipart(*fields: tuple[str, str]) -> str:
    part = '--B\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    return "".join(part.format(*field) for field in fields) + "--B--\r\n"


# --- JSON within other text

WRAPS = {
    "string": json.dumps,
    "percent": quote,
    "field": lambda text: f"payload={quote_plus(text)}",
    "key": lambda text: f"{quote_plus(text)}=",
}


@pytest.mark.parametrize("third", ["", *WRAPS])
@pytest.mark.parametrize("second", ["", *WRAPS])
@pytest.mark.parametrize("first", [*WRAPS])
def test_an_object_is_read_through_as_many_as_three_wraps(first, second, third) -> None:
    text = OBJECT
    for wrap in (first, second, third):
        text = WRAPS[wrap](text) if wrap else text
    assert same_reading(read(text).outcome.digest, read(OBJECT).outcome.digest)
    assert read(f" {text}\r\n").outcome.extra == {"note": FIELDS["note"]}


@pytest.mark.parametrize(
    "body",
    [
        f"{OBJECT}=",
        f"payload={OBJECT}",
        f"payload={json.dumps(OBJECT)}",
        f"{json.dumps(OBJECT)}=",
        f"result={quote_plus(OBJECT)}&",
        f"&data={quote_plus(OBJECT)}",
        quote(OBJECT, safe=":/,+"),
        f"call_details={quote_plus(quote(OBJECT))}",
        multipart(("payload", OBJECT)),
        multipart(("payload", json.dumps(OBJECT))),
        multipart(("payload", quote(json.dumps(OBJECT)))),
        json.dumps(json.dumps({"call_details": FIELDS})),
    ],
    ids=lambda body: body[:30],
)
@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "application/json"])
def test_an_object_is_read_from_a_forms_only_field(body, content_type) -> None:
    assert read(body, content_type).outcome.extra == {"note": FIELDS["note"]}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (json.dumps(json.dumps(json.dumps(json.dumps('{"status":"failed"}')))), "not_form"),
        (f"payload={quote_plus(OBJECT)}&more=1", "no_known_field"),
        ('"completed"', "not_form"),
        ("payload=%5B1%5D", "no_known_field"),
        ('payload={"status":', "no_known_field"),
        ("%7B%22status%22", "not_form"),
        ('{"status":"completed"', "not_json"),
        ("call_details=%7B%22status", "not_json"),
    ],
)
def test_text_without_an_object_is_quarantined(body, reason) -> None:
    assert read(body).reason == reason


def test_a_form_whose_values_look_like_json_stays_a_form() -> None:
    outcome = read('phone_number="\'6173720293\'"&call_id={"a":1}&result=Failed').outcome
    assert (outcome.phone_number, outcome.call_id) == ("+16173720293", '{"a":1}')


@pytest.mark.parametrize(
    "body",
    [
        '"' * 500_000,
        "%" * 1_000_000,
        "%25" * 300_000,
        "a=" * 500_000,
        '"\\"' * 250_000,
        "{" * 500_000 + "=",
        "&" * 10**6,
    ],
    ids=lambda body: body[:6],
)
@pytest.mark.timeout(20)
def test_wraps_without_end_are_given_up(body) -> None:
    assert read(body).outcome is None


@settings(max_examples=400)
@given(st.lists(st.sampled_from([*WRAPS]), max_size=6), st.text(max_size=20), st.booleans())
def test_any_wraps_of_anything_give_a_reading(wraps, text, is_object) -> None:
    body = json.dumps({"status": text}) if is_object else text
    for wrap in wraps:
        body = WRAPS[wrap](body)
    assert read(body.encode(errors="replace")).reason != "not_understood"


# --- forms that were written into HTML

DEV = "phone_number=16175551234&call_id=7&result=Failed&callee_type=busy"


@pytest.mark.parametrize("joined", ["&amp;", "&AMP;", "&#38;", "&#038;", "&#x26;", "&#X026;", "&amp;amp;"])
def test_a_form_joined_by_an_escaped_ampersand_reads_as_if_by_a_plain_one(joined) -> None:
    plain = read(DEV).outcome
    assert read(DEV.replace("&", joined)).outcome == plain
    assert read(DEV.replace("&", joined, 1)).outcome == plain
    assert read(DEV.replace("&", joined) + joined).outcome == plain


def test_an_escaped_ampersand_within_a_value_stays() -> None:
    assert read("result=Failed&note=" + quote("a&amp;b=c")).outcome.extra == {"note": "a&amp;b=c"}


# --- XML

LATIN = "<?xml version='1.0' encoding='{}'?><result><status>completed</status><note>Zoë “€” ok</note></result>"


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-16", "UTF-16LE", "utf-16be", "utf-8", "cp1252"])
@pytest.mark.parametrize("content_type", [None, "text/xml", "text/xml; charset=utf-8"])
def test_xml_is_read_in_the_encoding_that_it_declares(encoding, content_type) -> None:
    body = LATIN.format(encoding).encode(encoding)
    assert read(body, content_type).outcome.extra == {"note": "Zoë “€” ok"}


@pytest.mark.parametrize("encoding", ["utf-16", "klingon", "rot13", "utf-32", "idna"])
def test_an_encoding_that_xml_cannot_be_in_is_passed_over(encoding) -> None:
    assert read(LATIN.format(encoding).encode()).outcome.extra == {"note": "Zoë “€” ok"}


def test_the_headers_charset_precedes_that_of_the_xml() -> None:
    body = LATIN.format("utf-8").replace("“€”", "").encode("latin-1")
    assert read(body, "text/xml; charset=iso-8859-1").outcome.extra == {"note": "Zoë  ok"}


def test_attributes_and_text_of_xml_are_kept() -> None:
    body = """<result id="7" xmlns:x="urn:x"><status code="3" x:code="4">completed</status>before
        <events n="1"><item seq="0"><event>queued</event><timestamp tz="UTC">1475095892</timestamp></item></events>
        <list><item a="b">c</item><item>d</item></list><who name="Bob"/><attempts/>after</result>"""
    outcome = read(body).outcome
    assert (outcome.status_raw, outcome.attempts) == ("completed", None)
    assert [event.event for event in outcome.events] == ["queued"]
    assert outcome.extra == {
        "@id": "7",
        "#text": "before after",
        "status@code": ["3", "4"],
        "events@n": "1",
        "events[0].@seq": "0",
        "events[0].timestamp@tz": "UTC",
        "list": [{"#text": "c", "@a": "b"}, "d"],
        "who": "",
        "who@name": "Bob",
    }


def test_an_attribute_is_no_field() -> None:
    assert read('<result status="completed" attempts="1"/>').reason == "no_known_field"
    outcome = read('<result status="failed"><status>completed</status></result>').outcome
    assert (outcome.status_raw, outcome.extra) == ("completed", {"@status": "failed"})


@pytest.mark.parametrize(
    "declares",
    ['<!ENTITY b "c">', '<!ENTITY b SYSTEM "file:///etc/passwd">', '<!ENTITY % p SYSTEM "http://127.0.0.1/"> %p;'],
)
def test_xml_that_declares_entities_is_refused(declares) -> None:
    assert read(f"<!DOCTYPE r [{declares}]><r><status>completed</status></r>").reason == "not_xml"


# --- numbers as written

numbers = st.one_of(
    st.integers().map(str),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,25})\.[0-9]{1,25}([eE][+-]?[0-9]{1,3})?\Z"),
    st.sampled_from(
        ["1E5", "1e5", "112850593.0", "9007199254740993", "9007199254740993.0", "1e-999", "1e999", "-0.0"]
    ),
)


@given(numbers)
def test_a_number_that_becomes_text_stays_as_written(literal) -> None:
    outcome = read(f'{{"call_id":{literal},"result":"Completed"}}', product=Product.DEV).outcome
    assert outcome.call_id == literal
    assert outcome.id == read(urlencode({"call_id": literal, "result": "Completed"}), product=Product.DEV).outcome.id


@given(numbers)
def test_a_number_in_an_unknown_field_is_never_rounded(literal) -> None:
    outcome = read(f'{{"status":"completed","n":{literal},"in":[{literal}]}}').outcome
    shown = json.loads(to_json(outcome.extra), parse_float=str)
    assert shown["in"] == [shown["n"]]
    assert json.loads(f"[{literal}]", parse_float=_decimal) == [_decimal(str(shown["n"]))]
    assert not outcome.problems


def _decimal(literal: str):
    from decimal import Decimal

    return Decimal(literal)


def test_unix_seconds_may_have_more_digits_than_python_keeps() -> None:
    outcome = read(
        '{"status":"completed","queued_timestamp":1475095892.123456789,"attempts":1.0000000000000000001}'
    ).outcome
    assert outcome.queued_at.replace(microsecond=0) == datetime(2016, 9, 28, 20, 51, 32, tzinfo=UTC)
    assert [(one.field, one.value) for one in outcome.problems] == [("attempts", "1.0000000000000000001")]


# --- more than is read one by one

COUNT = 20_000
LARGE = {
    "form": "&".join(["status=completed", *(f"f{n}=x" for n in range(COUNT))]),
    "form, last": "&".join([*(f"f{n}=x" for n in range(COUNT)), "STATUS=completed"]),
    "escaped": "&".join(["status=completed", *(f"%66{n}=%78" for n in range(COUNT))]),
    "brackets": "&".join(["status=completed", *(f"f[a{n}]=x" for n in range(COUNT))]),
    "deep brackets": "&".join([*(f"f[{n}]{'[b]' * 50}=x" for n in range(COUNT // 20)), "status=completed"]),
    "multipart": multipart(*((f"f{n}", "x") for n in range(COUNT)), ("status", "completed")),
    "json": json.dumps({**{f"f{n}": "x" for n in range(COUNT)}, "status": "completed"}),
    "json within": json.dumps({"o": {f"f{n}": "x" for n in range(COUNT)}, "status": "completed"}),
    "json twice": f'{{{"".join(chr(34) + "f" + chr(34) + f":{n}," for n in range(COUNT))}"status":"completed"}}',
    "json list": json.dumps({"o": [[]] * COUNT, "status": "completed"}),
    "json events": json.dumps({"events": [{"event": "queued"}] * COUNT, "status": "completed"}),
    "json odd events": json.dumps({"events": [1] * COUNT, "status": "completed"}),
    "json large event": json.dumps({"events": [{f"f{n}": "x" for n in range(COUNT)}], "status": "completed"}),
    "wrapped": json.dumps({"call_details": {**{f"f{n}": "x" for n in range(COUNT)}, "status": "completed"}}),
    "wrapped text": json.dumps(json.dumps({**{f"f{n}": "x" for n in range(COUNT)}, "status": "completed"})),
    "xml": f"<r>{''.join(f'<f{n}>x</f{n}>' for n in range(COUNT))}<status>completed</status></r>",
    "xml events": f"<r><events>{'<item><event>queued</event></item>' * COUNT}</events><status>completed</status></r>",
    "xml attributes": "<r>" + "<f><g a='x'/></f>" * COUNT + "<status>completed</status></r>",
    "status many times": json.dumps({"a": 1})[:-1] + ',"status":"completed"' * COUNT + "}",
    "long status": json.dumps({"status": ["x"] * COUNT, "result": "completed", "call_id": "1"}),
}


@pytest.mark.parametrize("name", LARGE)
def test_more_than_is_read_one_by_one_is_kept_as_one_text_and_known_fields_count(name) -> None:
    outcome = read(LARGE[name]).outcome
    assert outcome.status == "completed"
    assert outcome.extra[MORE] == LARGE[name]
    [problem] = [one for one in outcome.problems if one.field == MORE]
    assert (problem.problem, problem.value > 0) == ("too_many_values", True)
    assert len(outcome.extra) + len(outcome.events) + len(outcome.problems) < 2 * MAX_VALUES


def test_values_within_the_limit_are_read() -> None:
    fields = {f"f{n}": str(n) for n in range(MAX_VALUES - 2)}
    for body in (urlencode({**fields, "status": "completed"}), json.dumps({**fields, "status": "completed"})):
        assert read(body).outcome.extra == fields
    outcome = read(json.dumps({"status": "completed", "events": [{"event": str(n)} for n in range(600)]})).outcome
    assert [event.event for event in outcome.events] == [str(n) for n in range(600)]
    assert not outcome.extra


def test_small_fields_behind_a_large_one_are_read() -> None:
    outcome = read(
        json.dumps({"o": ["x"] * COUNT, "n": 1, "status": "completed", "events": [{"event": "a"}]})
    ).outcome
    assert (outcome.extra["n"], len(outcome.events)) == (1, 1)


def test_a_boundary_longer_than_any_senders_is_none() -> None:
    """Python keeps the patterns made of boundaries, which would be megabytes each."""
    line = b"--" + b"B" * 100_000
    body = line + b'\r\nContent-Disposition: form-data; name="status"\r\n\r\nfailed\r\n' + line + b"--"
    for content_type in (None, f"multipart/form-data; boundary={line[2:].decode()}"):
        assert read(body, content_type).reason == "no_known_field"
