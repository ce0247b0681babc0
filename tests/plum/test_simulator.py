"""The simulator is an independent witness: these tests read its bodies with the standard library alone."""

from __future__ import annotations

import ast
import email.policy
import email.utils
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree

import phonenumbers
import pytest
from click.testing import CliRunner

from app.cli import main
from app.plum import simulator
from app.plum.simulator import (
    FORMS,
    Call,
    Encoding,
    Post,
    ProbeFailed,
    Target,
    campaign,
    expectations,
    noise,
    probe,
    probe_start,
    run,
    start,
    wire_forms,
)

AUTO = Target("http://127.0.0.1:9/result/KEY")
SEED = 7
DEV_WORDS = {
    *("voice", "answeringmachine", "faxmachine"),
    *("busy", "noanswer", "informationtone", "linefailure"),
    *("noattempt", "unknown"),
}

CALL_DETAILS: dict[str, Any] = {
    "status": "completed",
    "attempts": 2,
    "max_attempts": 3,
    "queued_timestamp": 1475095892,
    "start_timestamp": None,
    "reattempt_wait": 0,
    "phone_number": "'6175550123'",
    "events": [{"event": "queued", "timestamp": 1475095892}, {"event": "dialing", "timestamp": 1475095899}],
}
DEV = {
    "phone_number": "+16175550123",
    "message_reference": "Müller & Söhne #7",
    "call_id": 112850593,
    "result": "Failed",
    "callee_type": "busy",
    "attempts": 11,
    "last_attempt_timestamp": "Mon, 19 Jul 2004 13:46:03 -0400",
    "duration": None,
}


# Independent decoders


def decoded(content_type: str, body: bytes) -> dict[str, Any]:
    """The fields of a body as flat PHP-bracketed names and texts; absent values left out."""
    if content_type == "application/json":
        return flat(json.loads(body))
    if content_type == "text/xml":
        return flat(tree(ElementTree.fromstring(body)))  # noqa: S314 - our own bytes
    pairs = multipart(content_type, body) if "boundary=" in content_type else parse_qsl(body.decode(), True)
    fields = dict(pairs)
    assert len(fields) == len(pairs), "a name came twice"
    return flat({name: inner_json(value) for name, value in fields.items()})


def inner_json(value: str) -> Any:
    return json.loads(value) if value.startswith(("{", "[{")) else value


def multipart(content_type: str, body: bytes) -> list[tuple[str, str]]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    pairs = []
    for part in message_from_bytes(head + body, policy=email.policy.HTTP).iter_parts():
        value = part.get_payload(decode=True)
        assert isinstance(value, bytes)
        pairs.append((str(part.get_param("name", header="content-disposition")), value.decode()))
    return pairs


def tree(element: ElementTree.Element) -> Any:
    if len(element) == 0:
        return element.text
    if element[0].tag == "item":
        return [tree(inner) for inner in element]
    return {inner.tag: tree(inner) for inner in element}


def flat(value: Any, key: str = "") -> dict[str, str]:
    """Nested or bracketed alike, without envelope and `success`, so that all encodings can be compared."""
    if isinstance(value, dict | list):
        found: dict[str, str] = {}
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found |= flat(inner, f"{key}[{name}]" if key else str(name))
        return found
    key = re.sub(r"^call_details\[(\w+)\]", r"\1", key).replace("start_Timestamp", "start_timestamp")
    return {} if key == "success" or value in (None, "") else {key: str(value)}


def sent(call: Call) -> dict[str, str]:
    return decoded(call.posts[0].headers["Content-Type"], call.posts[0].body)


# A campaign repeats, and looks real


def test_the_same_seed_gives_the_same_bytes_and_the_same_truth() -> None:
    assert campaign([AUTO], 200, SEED, misbehave=True) == campaign([AUTO], 200, SEED, misbehave=True)
    assert noise([AUTO], 200, SEED) == noise([AUTO], 200, SEED)


def test_another_seed_gives_another_campaign() -> None:
    bodies = [[call.posts[0].body for call in campaign([AUTO], 50, seed)] for seed in (1, 2)]
    assert bodies[0] != bodies[1]


def test_another_base_time_moves_every_call() -> None:
    calls = campaign([Target(AUTO.url, "fuse")], 20, SEED, base=datetime(2030, 6, 1, tzinfo=UTC))
    assert {call.truth["queued_at"][:11] for call in calls} == {"2030-06-01T"}


def test_a_campaign_has_as_many_calls_as_asked_for() -> None:
    for misbehave in (False, True):
        assert len(campaign([AUTO], 333, SEED, misbehave=misbehave)) == 333


def test_a_thousand_calls_hold_every_word_of_every_product() -> None:
    truths = [call.truth for call in campaign([AUTO], 1000, SEED)]
    seen = {
        product: Counter(truth["callee_type"] or truth["status"] for truth in truths if truth["product"] == product)
        for product in ("dev", "insight", "fuse")
    }
    words = {"completed", "failed", "canceled", "rejected", "uncalled"}
    assert set(seen["insight"]) == set(seen["fuse"]) == words
    assert set(seen["dev"]) == DEV_WORDS
    assert all(sum(of_product.values()) > 200 for of_product in seen.values())
    answered = sum(truth["disposition"] == "answered" for truth in truths)
    assert 450 < answered < 750


def test_dev_calls_take_up_to_eleven_attempts() -> None:
    calls = campaign([Target(AUTO.url, "dev")], 2000, SEED)
    assert {call.truth["attempts"] for call in calls} == set(range(12))


def test_references_and_phones_are_as_uneven_as_in_life() -> None:
    calls = campaign([AUTO], 1000, SEED)
    dev = [call.truth for call in calls if call.truth["product"] == "dev"]
    assert 0.1 < sum(truth["message_reference"] is None for truth in dev) / len(dev) < 0.3
    phones = Counter(call.truth["phone_number"] for call in calls if call.truth["phone_number"])
    assert max(phones.values()) > 1
    assert any(not phone.startswith("+1") for phone in phones)


def test_half_of_insights_calls_have_a_url_of_their_own() -> None:
    calls = campaign([Target(AUTO.url, "insight")], 1000, SEED)
    identities = Counter(call.truth["identity"] for call in calls)
    assert 400 < identities["reference"] < 600
    assert any(call.truth["batch"] for call in calls)
    assert any(call.posts[0].url == AUTO.url for call in calls)


def test_every_phone_reads_as_the_number_that_the_truth_names() -> None:
    for call in campaign([AUTO], 600, SEED):
        raw, number = call.truth["phone_number_raw"], call.truth["phone_number"]
        if raw is not None:
            dialled = f"+{raw[1:]}" if raw.startswith(" ") else raw.strip("'")
            parsed = phonenumbers.parse(dialled.removeprefix("tel:").split(";")[0], "US")
            assert phonenumbers.is_valid_number(parsed)
            assert phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) == number


def test_a_cancelled_queue_sends_a_burst_with_one_timestamp() -> None:
    calls = campaign([Target(AUTO.url, "insight")], 500, SEED)
    moments = Counter(call.truth["ended_at"] for call in calls if call.truth["status"] == "canceled")
    assert max(moments.values()) >= 5


def test_no_two_calls_have_the_same_identity() -> None:
    parts = {
        "reference": ("reference",),
        "call_id": ("call_id", "message_reference", "phone_number_raw"),
        "derived": ("phone_number_raw", "queued_at"),
    }
    identities = [
        (call.truth["identity"], *(call.truth[part] for part in parts[call.truth["identity"]]))
        for call in campaign([AUTO], 3000, SEED, misbehave=True)
        if call.truth["identity"] != "none"
    ]
    assert len(identities) == len(set(identities))


def test_the_url_names_the_reference_or_the_batch_of_the_truth() -> None:
    for call in campaign([AUTO], 300, SEED):
        path = unquote(urlsplit(call.posts[0].url).path)
        place = {key: call.truth[key] for key in ("reference", "batch") if call.truth[key] is not None}
        key = {"reference": "call", "batch": "batch"}
        assert path == "/result/KEY" + "".join(f"/{key[name]}/{value}" for name, value in place.items())


def test_a_suffix_goes_before_the_query_of_the_result_url() -> None:
    target = Target.parse("insight=https://calls.example/result/KEY/?tag=1")
    assert target.product == "insight"
    assert target.below("call", "a b/c") == "https://calls.example/result/KEY/call/a%20b/c?tag=1"


@pytest.mark.parametrize(
    "text", ["", "calls.example/result/KEY", "ftp://calls.example/", "http:///result", "x=http://h/"]
)
def test_an_invalid_target_is_refused_with_the_expected_form(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("[dev=|insight=|fuse=]http(s)://HOST/result/KEY")):
        Target.parse(text)


def test_a_target_without_product_takes_all_three() -> None:
    assert Target.parse(AUTO.url) == Target(AUTO.url, None)
    assert {call.truth["product"] for call in campaign([AUTO], 100, SEED)} == {"dev", "insight", "fuse"}


# Wire forms


@pytest.mark.parametrize("absent", FORMS["absent"])
@pytest.mark.parametrize("numbers", FORMS["numbers"])
@pytest.mark.parametrize("wrapper", FORMS["wrapper"])
@pytest.mark.parametrize("encoding", FORMS["encoding"])
def test_every_encoding_says_the_same(encoding: str, wrapper: str, numbers: str, absent: str) -> None:
    rng = random.Random(SEED)
    knobs = Encoding(
        encoding=encoding,
        wrapper=wrapper,
        numbers=numbers,
        absent=absent,
        content_type="right",
    )
    headers, body = wire_forms.encode("fuse", CALL_DETAILS, knobs.drawn(rng), rng)
    assert decoded(headers["Content-Type"], body) == flat(CALL_DETAILS)


@pytest.mark.parametrize("dev_encoding", FORMS["dev_encoding"])
def test_both_of_devs_encodings_say_the_same(dev_encoding: str) -> None:
    rng = random.Random(SEED)
    forms = Encoding(dev_encoding=dev_encoding, dev_phone="plus", content_type="right").drawn(rng)
    headers, body = wire_forms.encode("dev", DEV, forms, rng)
    assert decoded(headers["Content-Type"], body) == flat(DEV)


def encoded(knobs: Encoding, fields: Mapping[str, Any] = CALL_DETAILS) -> tuple[dict[str, str], bytes]:
    rng = random.Random(SEED)
    return wire_forms.encode("fuse", fields, knobs.drawn(rng), rng)


@pytest.mark.parametrize(
    ("wrapper", "names"),
    [
        ("bare", set(CALL_DETAILS)),
        ("bare_success", {*CALL_DETAILS, "success"}),
        ("wrapped", {"call_details"}),
        ("wrapped_success", {"call_details", "success"}),
    ],
)
def test_json_comes_bare_or_wrapped(wrapper: str, names: set[str]) -> None:
    knobs = Encoding(encoding="json", wrapper=wrapper, absent="null", start_spelling="start_timestamp")
    _, body = encoded(knobs)
    assert set(json.loads(body)) == names


@pytest.mark.parametrize(("absent", "value"), [("empty", ""), ("null", None), ("missing", "gone")])
def test_absent_values_are_empty_null_or_missing(absent: str, value: str | None) -> None:
    _, body = encoded(Encoding(encoding="json", wrapper="bare", absent=absent, start_spelling="start_timestamp"))
    assert json.loads(body).get("start_timestamp", "gone") == value


def test_php_drops_null_keys_from_forms() -> None:
    _, body = encoded(Encoding(encoding="urlencoded", wrapper="bare", absent="null"))
    assert b"start_" not in body


def test_numbers_are_text_or_integers_or_both_in_one_object() -> None:
    def kinds(numbers: str) -> set[type]:
        _, body = encoded(Encoding(encoding="json", wrapper="bare", numbers=numbers))
        fields = json.loads(body)
        plain = [fields[name] for name in ("attempts", "max_attempts", "queued_timestamp", "reattempt_wait")]
        return {type(value) for value in [*plain, *(event["timestamp"] for event in fields["events"])]}

    assert (kinds("text"), kinds("int"), kinds("mixed")) == ({str}, {int}, {str, int})


def test_the_odd_spelling_of_start_timestamp_can_be_requested() -> None:
    knobs = Encoding(encoding="json", start_spelling="start_Timestamp")
    _, body = encoded(knobs, {**CALL_DETAILS, "start_timestamp": 1475095925})
    assert b'"start_Timestamp"' in body
    assert b'"start_timestamp"' not in body


@pytest.mark.parametrize(
    ("encoding", "wrong"),
    [
        ("json", "application/x-www-form-urlencoded"),
        ("xml", "application/x-www-form-urlencoded"),
        ("urlencoded", "text/plain"),
    ],
)
def test_the_content_type_can_be_wrong_or_missing(encoding: str, wrong: str) -> None:
    assert encoded(Encoding(encoding=encoding, content_type="wrong"))[0]["Content-Type"] == wrong
    assert "Content-Type" not in encoded(Encoding(encoding=encoding, content_type="missing"))[0]


def test_a_multipart_body_never_loses_its_boundary() -> None:
    for content_type in FORMS["content_type"]:
        headers, body = encoded(Encoding(encoding="multipart", content_type=content_type))
        assert decoded(headers["Content-Type"], body) == flat(CALL_DETAILS)


def test_large_bodies_ask_leave_as_phps_curl_does() -> None:
    small, _ = encoded(Encoding(encoding="json"))
    large, _ = encoded(Encoding(encoding="json"), {**CALL_DETAILS, "events": CALL_DETAILS["events"] * 20})
    assert "Expect" not in small
    assert large["Expect"] == "100-continue"


def test_an_unescaped_plus_arrives_as_a_space() -> None:
    for call in campaign(
        [Target(AUTO.url, "dev")], 20, SEED, Encoding(dev_phone="unescaped_plus", content_type="right")
    ):
        number = call.truth["phone_number"]
        assert call.posts[0].body.startswith(b"phone_number=" + number.encode())
        assert sent(call)["phone_number"] == call.truth["phone_number_raw"] == f" {number[1:]}"


def test_the_truth_keeps_fuses_quotes_as_sent() -> None:
    knobs = Encoding(fuse_phone="quoted", content_type="right")
    for call in campaign([Target(AUTO.url, "fuse")], 20, SEED, knobs):
        assert sent(call)["phone_number"] == call.truth["phone_number_raw"]
        assert call.truth["phone_number_raw"].startswith("'")


def test_an_unknown_form_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="absent is one of drawn, empty, missing, null, not 'zero'"):
        Encoding(absent="zero")


# Truth against what was sent


def test_sent_results_agree_with_the_expected_outcomes() -> None:
    for call in campaign([AUTO], 600, SEED, Encoding(content_type="right")):
        fields, truth = sent(call), call.truth
        assert truth["status_raw"] == fields[{"dev": "result"}.get(truth["product"], "status")]
        assert truth["status"] == truth["status_raw"].lower()
        for name, field in {
            "callee_type_raw": "callee_type",
            "call_id": "call_id",
            "message_reference": "message_reference",
        }.items():
            assert truth[name] == fields.get(field)
        for name, field in {
            "attempts": "attempts",
            "max_attempts": "max_attempts",
            "reattempt_wait_seconds": "reattempt_wait",
        }.items():
            assert truth[name] == (int(fields[field]) if field in fields else None)
        for name, field in {
            "queued_at": "queued_timestamp",
            "start_at": "start_timestamp",
            "end_at": "end_timestamp",
        }.items():
            assert truth[name] == (utc(int(fields[field])) if field in fields else None)
        assert truth["last_attempt_at"] == last_attempt(fields.get("last_attempt_timestamp"))
        assert [event["at"] for event in truth["events"]] == [
            utc(int(fields[f"events[{index}][timestamp]"])) for index in range(len(truth["events"]))
        ]


def utc(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def last_attempt(text: str | None) -> str | None:
    if text is None or text.isdigit():
        return utc(int(text)) if text else None
    return utc(int(email.utils.parsedate_to_datetime(text.replace("-0000", "+0000")).timestamp()))


def test_insights_duration_is_derived_from_events_and_others_are_as_sent() -> None:
    for call in campaign([AUTO], 600, SEED, Encoding(content_type="right")):
        truth, duration = call.truth, sent(call).get("duration")
        if truth["product"] != "insight":
            assert truth["duration_seconds"] == (None if duration is None else int(duration))
        elif truth["connected_at"]:
            start, end = (datetime.fromisoformat(truth[name]) for name in ("connected_at", "disconnected_at"))
            assert truth["duration_seconds"] == (end - start).total_seconds()
        else:
            assert truth["duration_seconds"] is None


def test_only_a_dev_call_that_never_was_dialled_leaves_its_end_to_the_receivers_clock() -> None:
    for call in campaign([AUTO], 600, SEED):
        never_dialled = call.truth["product"] == "dev" and call.truth["callee_type"] == "noattempt"
        assert (call.truth["ended_at"] is None) == never_dialled


@pytest.mark.parametrize(
    ("word", "disposition", "answered_by"),
    [
        ("voice", "answered", "human"),
        ("answeringmachine", "answered", "machine"),
        ("faxmachine", "answered", "fax"),
        ("busy", "busy", None),
        ("noanswer", "no_answer", None),
        ("noattempt", "not_attempted", None),
        ("informationtone", "failed", None),
        ("linefailure", "failed", None),
        ("completed", "answered", None),
        ("failed", "failed", None),
        ("canceled", "canceled", None),
        ("rejected", "rejected", None),
        ("uncalled", "not_attempted", None),
    ],
)
def test_the_truth_speaks_the_contracts_words(word: str, disposition: str, answered_by: str | None) -> None:
    truths = [call.truth for call in campaign([AUTO], 1000, SEED)]
    ends = [truth for truth in truths if word == (truth["callee_type"] or truth["status"])]
    assert {(truth["disposition"], truth["answered_by"]) for truth in ends} == {(disposition, answered_by)}


# Misbehaviour


@pytest.fixture(scope="module")
def trouble() -> list[Call]:
    return campaign([AUTO], 1500, SEED, Encoding(content_type="right"), misbehave=True)


def test_a_behaving_campaign_posts_each_call_once_and_no_body_twice() -> None:
    calls = campaign([AUTO], 1500, SEED)
    assert {len(call.posts) for call in calls} == {1}
    assert len({call.posts[0].body for call in calls}) == 1500
    assert not any(call.truth["possible_duplicate"] for call in calls)


def test_some_calls_are_posted_twice_in_the_same_bytes_and_some_in_another_encoding(
    trouble: list[Call],
) -> None:
    repeats = [(call.posts[0], call.posts[1]) for call in trouble if len(call.posts) > 1 and not call.ordered]
    same = [first.body == second.body for first, second in repeats]
    assert any(same)
    assert not all(same)
    for first, second in repeats:
        assert first.url == second.url
        assert decoded(first.headers["Content-Type"], first.body) == decoded(
            second.headers["Content-Type"], second.body
        )


def test_some_calls_send_an_older_state_after_the_final_one(trouble: list[Call]) -> None:
    late = [call for call in trouble if call.ordered]
    assert {call.truth["product"] for call in late} == {"dev", "insight", "fuse"}
    for call in late:
        final, before = (decoded(post.headers["Content-Type"], post.body) for post in (call.posts[0], call.posts[-1]))
        assert 0 < int(before["attempts"]) < int(final["attempts"])
        assert before.get("result", before.get("status")) in ("Failed", "failed")
        for name in ("call_id", "message_reference", "phone_number", "queued_timestamp"):
            assert before.get(name) == final.get(name)


def test_the_truth_counts_every_post_about_a_call(trouble: list[Call]) -> None:
    assert all(call.truth["deliveries"] == len(call.posts) for call in trouble)


def test_calls_without_identity_are_posted_once_for_each_post_would_be_another_call(
    trouble: list[Call],
) -> None:
    assert {len(call.posts) for call in trouble if call.truth["identity"] == "none"} == {1}


def test_two_outbound_servers_give_the_same_call_id(trouble: list[Call]) -> None:
    dev = [call.truth for call in trouble if call.truth["product"] == "dev"]
    shared = {call_id for call_id, count in Counter(truth["call_id"] for truth in dev).items() if count == 2}
    assert shared
    for call_id in shared:
        one, other = (truth for truth in dev if truth["call_id"] == call_id)
        assert {"call_id"} == {one["identity"], other["identity"]}
        assert (one["message_reference"], one["phone_number_raw"]) != (
            other["message_reference"],
            other["phone_number_raw"],
        )


def test_identical_insight_bodies_without_a_reference_are_possible_duplicates_of_each_other() -> None:
    targets = [Target("http://127.0.0.1:9/result/A"), Target("http://127.0.0.1:9/result/B")]
    calls = campaign(targets, 1500, SEED, misbehave=True)
    bodies = Counter((call.target.url, call.posts[0].body) for call in calls)
    marked = [call for call in calls if call.truth["possible_duplicate"]]
    assert marked
    assert {call.truth["identity"] for call in marked} == {"none"}
    for call in calls:
        twice = bodies[call.target.url, call.posts[0].body] > 1 and call.truth["identity"] == "none"
        assert call.truth["possible_duplicate"] == twice


def test_posts_go_out_as_calls_end_but_in_no_order_where_the_campaign_misbehaves() -> None:
    def share_in_order(*, misbehave: bool) -> float:
        calls = campaign([Target(AUTO.url, "insight")], 1000, SEED, misbehave=misbehave)
        called = [call for call in calls if call.truth["status"] != "uncalled"]
        called.sort(key=lambda call: str(call.truth["ended_at"]))
        in_order = [one.posts[0].turn <= next_one.posts[0].turn for one, next_one in pairwise(called)]
        return sum(in_order) / len(in_order)

    assert share_in_order(misbehave=False) == 1
    assert 0.4 < share_in_order(misbehave=True) < 0.6


def test_noise_holds_each_reason_of_quarantine_and_stands_apart_from_the_calls(trouble: list[Call]) -> None:
    garbage = noise([AUTO], 1500, SEED)
    assert {unwanted.reason for unwanted in garbage} == {
        "empty",
        "not_text",
        "not_json",
        "not_form",
        "not_xml",
        "too_deep",
        "no_known_field",
    }
    assert all(unwanted.post.body for unwanted in garbage), "an empty POST would be a probe"
    assert len(garbage) == 30
    assert not {unwanted.post.body for unwanted in garbage} & {post.body for call in trouble for post in call.posts}


# Probing


Answer = Callable[[int], tuple[int | None, bytes]]  # from the request's number; no status: hang up
Served = TypeVar("Served", bound="Server")


class Receiver(BaseHTTPRequestHandler):
    """Answers as its server's `answer` says, and keeps what it got."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.reply(b"")

    def do_POST(self) -> None:
        self.reply(self.rfile.read(int(self.headers["Content-Length"])))

    def reply(self, body: bytes) -> None:
        status, text = self.server.received(self, body)  # type: ignore[attr-defined]
        if status is None:
            self.close_connection = True
            return
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.answer = answer
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.peers: set[tuple[str, int]] = set()
        self.lock = threading.Lock()

    def received(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int | None, bytes]:
        with self.lock:
            self.requests.append((request.command, request.path, dict(request.headers), body))
            self.peers.add(request.client_address)
            return self.answer(len(self.requests))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/result/KEY"


class ClosingServer(Server):
    """Closes each connection after its first answer, which says nothing of it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.closed = threading.Semaphore(0)

    def received(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int | None, bytes]:
        request.close_connection = True
        return super().received(request, body)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.closed.release()

    def await_close(self) -> None:
        assert self.closed.acquire(timeout=10)


@contextmanager
def serving(server: Served) -> Iterator[Served]:
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def receiver(answer: Answer) -> AbstractContextManager[Server]:
    return serving(Server(answer))


def acknowledging(_: int) -> tuple[int, bytes]:
    return 200, b"completed"


def test_a_probe_is_content_with_a_plain_completed() -> None:
    with receiver(acknowledging) as server:
        probe(Target(server.url))
        assert [(method, path) for method, path, _, _ in server.requests] == [("GET", "/result/KEY")]


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (
            (301, b"completed"),
            "answers 301 to GET: Plum follows no redirect, so give the address it leads to",
        ),
        ((404, b"completed"), "answers 404 to GET: the key is unknown or disabled"),
        ((405, b"completed"), "answers 405 to GET: Plum probes with GET"),
        ((204, b""), "answers 204 to GET: Plum takes a plain 200 only"),
        ((200, b"<html>welcome</html>"), "give a result_url of the receiver"),
        ((200, b"completed\n"), "not 'completed'"),
        ((None, b""), "gives no answer (RemoteDisconnected)"),
    ],
)
def test_a_failed_probe_says_in_one_line_what_to_do(answer: tuple[int | None, bytes], advice: str) -> None:
    with receiver(lambda _: answer) as server:
        with pytest.raises(ProbeFailed, match=re.escape(advice)) as failure:
            probe(Target(server.url))
        assert "\n" not in str(failure.value)
        assert len(server.requests) == 1


# Starting

VXML = b'<?xml version="1.0"?><vxml version="2.0" xmlns="http://www.w3.org/2001/vxml"><form/></vxml>'


def test_each_dev_call_that_connects_requests_its_script() -> None:
    calls = campaign([Target(AUTO.url)], 60, SEED)
    with receiver(lambda _: (200, VXML)) as server:
        probe_start(server.url)
        starts = start(calls, server.url, 4, 10)
        asked = [dict(parse_qsl(body.decode(), True)) for method, _, _, body in server.requests if method == "POST"]
    connected = [one.truth for one in calls if one.truth["product"] == "dev" and one.truth["answered_by"]]
    assert (starts.started, dict(starts.failures)) == (len(connected), {})
    assert server.requests[0][0] == "GET"
    assert sorted((one["call_id"], one["phone_number"]) for one in asked) == sorted(
        (truth["call_id"], truth["phone_number_raw"]) for truth in connected
    )
    names = {"phone_number", "call_id", "message_reference", "campaign_parameters", "call_parameters"}
    assert all(one.keys() == names for one in asked)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ((200, b"completed"), "NoVoiceXml"),
        ((200, VXML.replace(b"2.0", b"2.1")), "NoVoiceXml"),
        ((200, b'<html xmlns="http://www.w3.org/2001/vxml" version="2.0"/>'), "NoVoiceXml"),
        ((503, VXML), "503"),
        ((None, b""), "RemoteDisconnected"),
    ],
)
def test_a_start_without_voicexml_is_a_failure(answer, failure) -> None:
    calls = campaign([Target(AUTO.url, "dev")], 10, SEED)
    with receiver(lambda _: answer) as server:
        starts = start(calls, server.url, 2, 10)
    assert starts.started > 0
    assert starts.failures == {failure: starts.started}


def test_a_start_url_that_fails_its_probe_stops_the_queue() -> None:
    with receiver(lambda _: (404, b"")) as server, pytest.raises(ProbeFailed, match="answers 404 to GET"):
        probe_start(server.url)


@pytest.mark.parametrize(("text", "status"), [(VXML, 0), (b"no script", 1)])
def test_the_command_reports_calls_without_a_script(text, status) -> None:
    with receiver(acknowledging) as results, receiver(lambda _: (200, text)) as scripts:
        urls = ["--result-url", f"dev={results.url}", "--start-url", scripts.url]
        done = CliRunner().invoke(main, ["simulate", "--calls", "10", "--seed", "7", "--json", *urls])
    assert done.exit_code == status
    assert ("got no VoiceXML 2.0" in done.output) == bool(status)


# Posting


def posted(calls: list[Call], concurrency: int = 4) -> simulator.Summary:
    return run(calls, [], concurrency, lambda _: None, 10)


def test_a_run_posts_every_body_unchanged_and_counts_the_acknowledgements() -> None:
    with receiver(acknowledging) as server:
        calls = campaign([Target(server.url)], 60, SEED, misbehave=True)
        garbage = noise([Target(server.url)], 60, SEED)
        steps: list[int] = []
        summary = run(calls, garbage, 4, steps.append, 10)
        posts = [post for call in calls for post in call.posts] + [unwanted.post for unwanted in garbage]
        assert Counter(body for _, _, _, body in server.requests) == Counter(post.body for post in posts)
        assert (summary.posted, summary.acknowledged) == (len(posts), len(posts))
        assert (dict(summary.refused), dict(summary.errors), summary.unacknowledged) == ({}, {}, [])
        assert sum(steps) == len(posts)


def test_headers_reach_the_receiver_as_the_campaign_gave_them() -> None:
    with receiver(acknowledging) as server:
        calls = campaign([Target(server.url)], 40, SEED)
        posted(calls)
        got = {body: (path, headers) for _, path, headers, body in server.requests}
        for post in (post for call in calls for post in call.posts):
            path, headers = got[post.body]
            assert path == urlsplit(post.url).path
            assert headers.get("Content-Type") == post.headers.get("Content-Type")
            assert headers.get("Expect") == post.headers.get("Expect")
        assert any("Expect" in headers for _, headers in got.values())


def test_connections_are_reused_up_to_the_concurrency() -> None:
    with receiver(acknowledging) as server:
        posted(campaign([Target(server.url)], 60, SEED), concurrency=3)
        assert len(server.peers) <= 3


def test_a_refused_post_is_counted_by_status_and_not_tried_again() -> None:
    with receiver(lambda number: (503, b"later") if number % 3 == 0 else (200, b"completed")) as server:
        calls = campaign([Target(server.url)], 60, SEED)
        summary = posted(calls)
        assert len(server.requests) == 60
        assert (summary.posted, summary.acknowledged, dict(summary.refused)) == (60, 40, {503: 20})
        assert len(summary.unacknowledged) == 20


def test_a_post_without_answer_is_counted_by_kind_and_the_others_go_on() -> None:
    with receiver(lambda number: (None, b"") if number % 5 == 0 else (200, b"completed")) as server:
        summary = posted(campaign([Target(server.url)], 50, SEED))
        assert (summary.acknowledged, dict(summary.errors)) == (40, {"RemoteDisconnected": 10})


def test_a_connection_that_the_receiver_closed_meanwhile_loses_no_post() -> None:
    with serving(ClosingServer(acknowledging)) as server:
        calls = campaign([Target(server.url)], 10, SEED)
        summary = run(calls, [], 1, lambda _: server.await_close(), 10)
        assert (summary.acknowledged, dict(summary.errors)) == (10, {})
        assert len(server.peers) == 10


def test_an_unreachable_url_is_an_error_for_each_post() -> None:
    with Server(acknowledging) as server:
        url = server.url
    summary = posted(campaign([Target(url)], 5, SEED))
    assert (summary.acknowledged, dict(summary.errors), summary.p50_ms) == (
        0,
        {"ConnectionRefusedError": 5},
        None,
    )


def test_another_text_than_completed_is_no_acknowledgement() -> None:
    with receiver(lambda _: (200, b"ok")) as server:
        summary = posted(campaign([Target(server.url)], 5, SEED))
        assert (summary.acknowledged, dict(summary.errors)) == (0, {"WrongText": 5})


def test_ordered_posts_of_a_call_arrive_in_their_order() -> None:
    with receiver(acknowledging) as server:
        calls = campaign([Target(server.url)], 200, SEED, misbehave=True)
        posted(calls, concurrency=8)
        arrival = {(path, body): place for place, (_, path, _, body) in enumerate(server.requests)}
        late = [call for call in calls if call.ordered]
        assert late
        for call in late:
            first, last = call.posts[0], call.posts[-1]
            assert arrival[urlsplit(first.url).path, first.body] < arrival[urlsplit(last.url).path, last.body]


def test_posts_go_out_by_their_turns() -> None:
    with receiver(acknowledging) as server:
        posts = [Post(server.url, {}, str(turn).encode(), turn) for turn in (3, 1, 2)]
        posted([Call(Target(server.url), {}, posts)], concurrency=1)
        assert [body for _, _, _, body in server.requests] == [b"1", b"2", b"3"]


def test_expectations_say_which_calls_were_acknowledged_in_full() -> None:
    with receiver(lambda number: (503, b"") if number == 2 else (200, b"completed")) as server:
        calls = campaign([Target(server.url)], 3, SEED)
        summary = posted(calls, concurrency=1)
    owed = list(expectations(calls))
    assert Counter(each["acknowledged"] for each in owed) == {True: 2, False: 1}
    assert [each["outcome"] for each in owed if not each["acknowledged"]] == [summary.unacknowledged[0].truth]
    assert {each["result_url"] for each in owed} == {server.url}
    assert json.loads(json.dumps(owed)) == owed


def test_a_summary_can_be_printed_as_json() -> None:
    with receiver(lambda number: (503, b"") if number == 1 else (200, b"completed")) as server:
        shown = json.loads(json.dumps(posted(campaign([Target(server.url)], 4, SEED)).as_dict()))
    assert (shown["posted"], shown["acknowledged"], shown["refused"], shown["unacknowledged"]) == (
        4,
        3,
        {"503": 1},
        1,
    )
    assert 0 < shown["p50_ms"] <= shown["p95_ms"] <= shown["p99_ms"]
    assert shown["per_second"] > 0


# Independence


def test_the_witness_imports_nothing_of_the_receiver_nor_of_the_client() -> None:
    modules = {path.stem: path for path in Path(simulator.__file__).parent.glob("*.py")}
    for module in modules.values():
        for node in ast.walk(ast.parse(module.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in (name for name in names if name.split(".")[0] == "app"):
                assert name.startswith("app.plum.simulator"), f"{module} imports {name}"
    assert modules.keys() >= {"result_sender", "campaign", "wire_forms", "expected_outcomes"}
