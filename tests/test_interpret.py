"""Understanding is pure and total: any bytes give a reading, and the rules of the contract hold on all of them."""

from __future__ import annotations

import ast
import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.identity import start_id
from app.interpret import interpret, start_fields
from app.model import CalleeType, Delivery, Disposition, Outcome, Product, Reading, Status, Verdict
from app.normalise import VERSION, fold, same_reading
from app.store.types import to_json
from app.values import phone

REASONS = {"empty", "not_text", "not_json", "not_form", "not_xml", "too_deep", "no_known_field"}
NAMES = [
    "status", "attempts", "max_attempts", "reattempt_wait", "queued_timestamp", "start_timestamp", "end_timestamp",
    "last_attempt_timestamp", "phone_number", "duration", "events", "result", "callee_type", "message_reference",
    "call_id", "success", "call_details", "start_Timestamp", "foo", "",
]  # fmt: skip
NOW = datetime(2026, 1, 1, tzinfo=UTC)

words = st.one_of(
    st.sampled_from(
        ["Completed", "failed", "cancelled", "busy", "voice", "fax", "0", "-1", "1e999", "1475095892", "", " "]
    ),
    st.sampled_from(
        ["Mon, 19 Jul 2004 13:46:03 -0400", "Mon, 32 Jul 2004 99:46:03 -9999", "' 16175551234'", "tel:;x"]
    ),
    st.text(max_size=20),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "Nd"]), max_size=5),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.just(10**30), words)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=4),
    ),
    max_leaves=12,
)
events = st.lists(
    st.fixed_dictionaries({}, optional={"event": scalars, "timestamp": scalars, "x": scalars}) | scalars,
    max_size=4,
)
bodies = st.dictionaries(st.sampled_from(NAMES), values | events, max_size=8)
content_types = st.one_of(
    st.none(),
    st.sampled_from(
        [
            "application/json",
            "application/x-www-form-urlencoded",
            "text/xml",
            "application/json; charset=utf-16",
            "text/plain; charset=punycode",
            "a; charset=a\x00b",
            "x; charset=rot13",
            "multipart/form-data; boundary=B",
            'multipart/form-data; boundary="\\"',
        ]
    ),
    st.text(max_size=30),
)
products = st.sampled_from([None, *Product])


def read(body: bytes, content_type: str | None = None, product: Product | None = None, **fields) -> Reading:
    return interpret(
        Delivery(
            id=UUID(int=7),
            integration="i",
            received_at=NOW,
            body=body,
            content_type=content_type,
            product=product,
            **fields,
        )
    )


def assert_holds(reading: Reading) -> None:
    if reading.outcome is None:
        assert reading.reason in REASONS
        return
    outcome = reading.outcome
    for value in (outcome.extra, [problem.value for problem in outcome.problems]):
        to_json(value).encode()
    for name in ("attempts", "max_attempts", "reattempt_wait_seconds", "duration_seconds"):
        number = getattr(outcome, name)
        assert number is None or (type(number) is int and 0 <= number < 2**31)
    for name in Outcome._fields:
        value = getattr(outcome, name)
        assert value != "", f"{name} is empty, not null"
        if isinstance(value, str):
            value.encode()
            assert "\x00" not in value
        if isinstance(value, datetime):
            assert value.utcoffset() == timedelta(0)
    assert outcome.ended_at is not None
    assert outcome.normaliser == VERSION
    assert (outcome.callee_type is None) == (outcome.product is not Product.DEV)


@settings(max_examples=1500)
@given(st.binary(max_size=300), content_types, products)
@example(
    b"--B\r\nContent-Disposition: form-data; name*=a\x00b''x\r\n\r\n1\r\n--B--",
    "multipart/form-data; boundary=B",
    None,
)
@example(b"events[][][][]=1&events[a][]=2&events=3&events[0]=4&a]=5&[b]=6", None, None)
def test_any_bytes_give_a_reading(body, content_type, product) -> None:
    assert_holds(read(body, content_type, product))


@settings(max_examples=500)
@given(bodies, content_types, products, st.booleans())
def test_any_json_gives_a_reading(body, content_type, product, wrapped) -> None:
    text = json.dumps({"call_details": body} if wrapped else body)
    assert_holds(read(text.encode(), content_type, product))


@settings(max_examples=400)
@given(st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=6), words), max_size=8), content_types, products)
def test_any_form_gives_a_reading(pairs, content_type, product) -> None:
    assert_holds(read(urlencode(pairs, errors="surrogatepass").encode(), content_type, product))


@settings(max_examples=500)
@given(
    st.recursive(
        words,
        lambda inner: st.lists(st.tuples(st.sampled_from([*NAMES[:-1], "item"]), inner), max_size=4),
        max_leaves=9,
    )
)
def test_any_xml_gives_a_reading(tree) -> None:
    def xml(node) -> str:
        if isinstance(node, str):
            return "".join(c for c in node if c.isalnum())
        return "".join(f"<{name}>{xml(inner)}</{name}>" for name, inner in node)

    assert_holds(read(f"<result>{xml(tree)}</result>".encode(errors="replace"), "text/xml"))


def unstorable_names() -> list[bytes]:
    """Different names of NUL and U+FFFD, which are all alike once they are storable."""
    return [f"{number:0700b}".replace("0", "\0").replace("1", "\ufffd").encode() for number in range(1900)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 100_000, "too_deep"),
        (b"<a>" * 100_000 + b"</a>" * 100_000, "too_deep"),
        (b"a" + b"[b]" * 100_000 + b"=1", "too_deep"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "not_xml"),
        (b"&" * 1_000_000, "not_form"),
        (b"a[]=1&" * 150_000, "no_known_field"),
        (b"=" * 1_000_000, "not_form"),
        (b"--B\r\n" * 100_000, "not_form"),
        (b'{"status":"x","o":{' + b",".join(b'"k":%d' % number for number in range(100_000)) + b"}}", None),
        (b"status=x" + b"".join(b"&o[k]=%d" % number for number in range(80_000)), None),
        (b"<r><status>x</status><o>" + b"<k>0</k><k>1</k>" * 60_000 + b"</o></r>", None),
        (b'{"status":"x","events":[{' + b",".join(b'"k":%d' % number for number in range(90_000)) + b"}]}", None),
        (b'{"status":"x","o":{' + b",".join(b'"%s":1' % name for name in unstorable_names()) + b"}}", None),
        (b"status=" + b"(" * 1_000_000, None),
        (b"phone_number=" + b"1" * 1_000_000, None),
        (b"phone_number=" + b"' " * 500_000, None),
        (b"last_attempt_timestamp=" + b"1 " * 500_000, None),
        (b"attempts=" + b"9" * 1_000_000, None),
        (b'{"attempts":' + b"9" * 1_000_000 + b"}", None),
        (b"&".join(b"field%d=x" % number for number in range(5000)) + b"&status=completed", None),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else value,
)
@pytest.mark.timeout(20)
def test_a_bomb_is_read_in_bounded_time(body, reason) -> None:
    assert read(body).reason == reason


def test_a_body_that_was_cut_short_is_never_applied() -> None:
    assert read(b"result=Completed", cut_short=True).reason == "cut_short"


def test_a_fault_of_ours_keeps_the_delivery_under_its_own_reason(monkeypatch) -> None:
    monkeypatch.setattr("app.interpret.normalise", lambda *_: 1 / 0)
    assert read(b"result=Completed").reason == "not_understood"


ENCODINGS = {
    "json": lambda fields: json.dumps(fields),
    "wrapped": lambda fields: json.dumps({"success": True, "call_details": fields}),
    "text numbers": lambda fields: json.dumps({name: str(value) for name, value in fields.items()}),
    "form": lambda fields: urlencode(fields),
    "brackets": lambda fields: urlencode({f"call_details[{name}]": value for name, value in fields.items()}),
    "one field": lambda fields: urlencode({"call_details": json.dumps(fields)}),
}


@given(
    st.fixed_dictionaries(
        {"status": st.sampled_from(["completed", "failed", "Odd"])},
        optional={
            name: st.integers(0, 2**31 - 1) for name in ("attempts", "queued_timestamp", "duration", "stranger")
        },
    )
)
def test_every_encoding_of_the_same_fields_is_the_same_reading(fields) -> None:
    digests = [read(encode(fields).encode(), product=Product.FUSE).outcome.digest for encode in ENCODINGS.values()]
    assert all(same_reading(digests[0], digest) for digest in digests)


STATUS_ROWS = {
    "completed": Disposition.ANSWERED, "failed": Disposition.FAILED, "canceled": Disposition.CANCELED,
    "cancelled": Disposition.CANCELED, "rejected": Disposition.REJECTED, "uncalled": Disposition.NOT_ATTEMPTED,
}  # fmt: skip
CALLEE_ROWS = {
    "voice": ("answered", "human"), "answeringmachine": ("answered", "machine"), "faxmachine": ("answered", "fax"),
    "fax": ("answered", "fax"), "busy": ("busy", None), "noanswer": ("no_answer", None),
    "noattempt": ("not_attempted", None), "informationtone": ("failed", None), "linefailure": ("failed", None),
}  # fmt: skip


@given(
    st.sampled_from([*STATUS_ROWS, "odd", None]),
    st.sampled_from([*CALLEE_ROWS, "unknown", "odd", "", None]),
    st.booleans(),
)
def test_words_are_normalised_as_in_the_contract(result, callee_type, capitals) -> None:
    spell = str.upper if capitals else str
    fields = {"call_id": "1", "message_reference": "m"}
    fields |= {"result": spell(result)} if result else {}
    fields |= {"callee_type": spell(callee_type)} if callee_type is not None else {}
    outcome = read(urlencode(fields).encode()).outcome
    by_result = STATUS_ROWS.get(result, Disposition.UNKNOWN)
    assert (outcome.disposition, outcome.answered_by) == CALLEE_ROWS.get(callee_type, (by_result, None))
    assert outcome.status == {"cancelled": "canceled"}.get(
        result, result if result in STATUS_ROWS else Status.UNKNOWN
    )
    known = {"fax": "faxmachine"}.get(callee_type, callee_type if callee_type in CALLEE_ROWS else CalleeType.UNKNOWN)
    assert outcome.callee_type == known
    answered, ended = {"voice", "answeringmachine", "faxmachine", "fax"}, set(CALLEE_ROWS)
    contradicts = (result == "completed" and callee_type in ended - answered) or (
        result == "failed" and callee_type in answered
    )
    assert [problem.problem for problem in outcome.problems] == ["contradicts_result"] * contradicts


tellings = st.lists(
    st.builds(
        lambda attempts, word, at, received: (
            interpret(
                Delivery(
                    id=UUID(int=received),
                    integration="i",
                    received_at=NOW + timedelta(seconds=received),
                    body=json.dumps(
                        {"status": word, "attempts": attempts, "last_attempt_timestamp": at, "x": at}
                    ).encode(),
                    reference="r",
                )
            ).outcome
        ),
        st.sampled_from([None, 0, 1, 2, "2"]),
        st.sampled_from(["completed", "failed", "odd"]),
        st.sampled_from([None, 1475095892, "1475095892", 1475095893]),
        st.integers(0, 5),
    ),
    min_size=2,
    max_size=6,
)


@settings(max_examples=400)
@given(tellings, st.randoms(use_true_random=False), st.integers(1, 5))
def test_any_order_and_grouping_folds_to_the_same_outcome(outcomes, random, at) -> None:
    whole = fold(outcomes)
    shuffled = list(outcomes)
    random.shuffle(shuffled)
    halves = [part for part in (shuffled[:at], shuffled[at:]) if part]
    assert fold(shuffled) == whole
    assert fold(fold(half) for half in halves) == whole
    assert whole.deliveries == len(outcomes)
    newest = max((o.attempts if o.attempts is not None else -1) for o in outcomes)
    assert (whole.attempts if whole.attempts is not None else -1) == newest


def test_understanding_knows_no_clock_no_log_no_store_and_no_web() -> None:
    root = Path(__file__).parent.parent / "app"
    files = [
        *(root / f"{name}.py" for name in ("interpret", "normalise", "values", "model")),
        *(root / "products").glob("*.py"),
    ]
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    impure = {"time", "logging", "os", "random", "secrets", "socket", "flask", "werkzeug", "sqlalchemy", "pathlib"}
    assert not {name.split(".")[0] for name in imported if name} & impure
    calls = "".join(file.read_text() for file in files)
    assert ".now(" not in calls
    assert "utcnow" not in calls


@pytest.mark.parametrize("start", ["&", "flag&", "é=1&", "$x=1&", "a:b=1&", "'s'=x&", "&&=3&"])
def test_a_form_is_read_however_its_first_name_looks(start) -> None:
    assert read(f"{start}status=completed&attempts=1".encode()).outcome.attempts == 1


def test_a_name_given_twice_within_an_unknown_object_keeps_both_values() -> None:
    outcome = read(b'{"status":"completed","foo":[{"a":1,"a":2,"a":true,"a":1}]}').outcome
    assert outcome.extra == {"foo": [{"a": [1, 2, True]}]}
    assert [(problem.field, problem.value) for problem in outcome.problems] == [("foo[0].a", [1, 2, True])]


def test_an_unknown_field_of_an_event_does_not_hide_another_of_that_name() -> None:
    outcome = read(b'{"status":"x","events[0].who":"top","events":[{"event":"a","who":"x"}]}').outcome
    assert sorted(outcome.extra["events[0].who"]) == ["top", "x"]
    assert [problem.problem for problem in outcome.problems] == ["given_twice"]


def test_names_that_differ_in_what_cannot_be_stored_stay_two() -> None:
    outcome = read(rb'{"status":"x","a\ud800":1,"a\ud801":"\u0000"}').outcome
    assert list(outcome.extra.values()) == [1, "\ufffd"]
    assert {problem.problem for problem in outcome.problems} == {"unstorable_character"}


def test_escapes_are_not_read_in_a_charset_that_the_body_is_not_in() -> None:
    body = b"status=failed&foo=%C3%BC"
    outcome = read(body, "application/x-www-form-urlencoded; charset=utf-16").outcome
    assert outcome.extra == {"foo": "ü"}
    assert read(body.decode().encode("utf-16"), "text/plain; charset=utf-16").outcome.extra == {"foo": "ü"}


def test_a_parts_name_may_be_of_any_script() -> None:
    part = 'Content-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    body = f"--B\r\n{part.format('Ünknown', 'ü')}--B\r\n{part.format('status', 'failed')}--B--"
    assert read(body.encode(), "multipart/form-data; boundary=B").outcome.extra == {"Ünknown": "ü"}


@pytest.mark.parametrize(
    "events", ["<event><event>queued</event><timestamp>1475095892</timestamp></event>" * 2, "\n  ", "", "<item/>"]
)
def test_xml_events_are_read_whatever_their_items_are_called(events) -> None:
    outcome = read(f"<result><status>failed</status><events>{events}</events></result>".encode()).outcome
    assert [event.event for event in outcome.events] == ["queued"] * events.count("<timestamp>")


def test_a_multipart_charset_and_escaped_quotes_in_names_are_read() -> None:
    body = '--B\r\nContent-Disposition: form-data; name="a\\"b"\r\n\r\né\r\n'
    body += '--B\r\nContent-Disposition: form-data; name="status"\r\n\r\nfailed\r\n--B--'
    read_as = "multipart/form-data; boundary=B; charset=iso-8859-1"
    assert read(body.encode("latin-1"), read_as).outcome.extra == {'a"b': "é"}


@pytest.mark.parametrize(("end", "seconds"), [(946684800 + 2**31 - 1, 2**31 - 1), (946684800 + 2**31, None)])
def test_a_duration_that_follows_from_events_is_in_the_bounds_of_all_numbers(end, seconds) -> None:
    """PostgreSQL would refuse the call."""
    events = [{"event": "connected", "timestamp": 946684800}, {"event": "disconnected", "timestamp": end}]
    outcome = read(json.dumps({"status": "completed", "events": events}).encode(), product=Product.INSIGHT).outcome
    assert outcome.duration_seconds == seconds


@pytest.mark.parametrize("empty", ["null", '""'])
def test_an_empty_duration_does_not_make_an_insight_call_one_of_fuse(empty) -> None:
    outcome = read(b'{"status":"failed","duration":%s}' % empty.encode(), product=Product.INSIGHT).outcome
    assert (outcome.product, outcome.problems) == (Product.INSIGHT, ())


@given(st.from_regex(r"1?[2-9][0-9]{9}", fullmatch=True))
def test_a_north_american_number_is_read_as_the_library_reads_it(dialled: str) -> None:
    parsed = phonenumbers.parse(dialled, "US")
    assert phonenumbers.is_possible_number_with_reason(parsed) == phonenumbers.ValidationResult.IS_POSSIBLE
    assert phone(dialled, "US") == phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


# --- starts


FIVE = ("phone_number", "call_id", "message_reference", "campaign_parameters", "call_parameters")


@settings(max_examples=500)
@given(
    st.binary(max_size=200) | bodies.map(lambda body: json.dumps(body, default=str).encode()),
    content_types,
    st.text(),
)
def test_a_start_stays_a_start_whatever_its_fields_are(body, content_type, query) -> None:
    reading = read(body, content_type, started=True, query=query)
    assert (reading.verdict, reading.outcome, reading.reason, reading.problems) == (Verdict.STARTED, None, None, ())
    fields = start_fields(reading.delivery)
    assert set(fields) <= set(FIVE)
    assert all(isinstance(value, str) and value for value in fields.values())
    assert (reading.start_of is None) == ("call_id" not in fields)


def test_a_start_names_its_call_however_it_is_sent() -> None:
    told = {"phone_number": "+16175551234", "call_id": "7", "message_reference": "a"}
    form = urlencode(told).encode()
    ways = [
        read(form, started=True),
        read(b"", started=True, query=urlencode(told)),
        read(b"call_id=7&message_reference=", started=True, query=urlencode(told | {"call_id": "8"})),
        read(json.dumps(told | {"call_id": 7, "PHONE_NUMBER": "1"}).encode(), started=True),
        read(gzip.compress(form), started=True, headers=(("Content-Encoding", "gzip"),)),
        *(
            read(urlencode(told | {"phone_number": phone}).encode(), started=True)
            for phone in ("6175551234", "'(617) 555-1234'")
        ),
    ]
    assert {one.start_of for one in ways} == {start_id("i", "7", "a", "+16175551234")}


def test_a_start_and_its_result_name_one_call_where_the_number_does_not_parse_too() -> None:
    for number in ("junk", "5551234", ""):
        told = {"phone_number": number, "call_id": "7", "message_reference": "a\x00"}
        outcome = read(urlencode(told | {"result": "Failed"}).encode()).outcome
        assert outcome
        named = start_id(
            "i", outcome.call_id, outcome.message_reference, outcome.phone_number or outcome.phone_number_raw
        )
        assert read(urlencode(told).encode(), started=True).start_of == named


def test_starts_of_different_calls_name_different_ones() -> None:
    told = {"phone_number": "+16175551234", "call_id": "7", "message_reference": "a"}
    others = [told, *(told | {name: value} for name in told for value in ("8", ""))]
    named = [read(urlencode(one).encode(), started=True).start_of for one in others]
    assert named.count(None) == 1  # the one without a call_id
    assert len(set(named)) == len(others)


def test_a_start_that_breaks_off_is_quarantined_and_names_nothing() -> None:
    reading = read(b"call_id=7", started=True, cut_short=True)
    assert (reading.verdict, reading.reason, reading.start_of) == (Verdict.QUARANTINED, "cut_short", None)
