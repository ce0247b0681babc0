"""Plum's answers verbatim, as documented, and what the client makes of each beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.plum import client as api
from app.plum.client import ApiError, CallStatus
from app.plum.client.client import Clocks
from app.plum.client.credentials import Credentials
from app.plum.client.dev import DevClient
from app.plum.client.insight_fuse import FuseClient, InsightClient
from app.plum.client.pacing import Pace
from app.plum.client.responses import Reply
from app.plum.client.retrying import Retries
from tests.plum.client.conftest import NOW, PHONE, SECRET, USER, client, peer, perform

ANSWERS = sorted((Path(__file__).parent / "answers").rglob("*.http"))
CODES = {200, 202, 400, 401, 403, 404, 405, 409, 415, 500}


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_response_of_plum_has_its_meaning(answer: Path) -> None:
    expected = json.loads(answer.with_suffix(".expected.json").read_text())
    with peer(answer.read_bytes()) as plum, client(answer.parent.name, plum.url) as ours:
        if "raises" in expected:
            kind = getattr(api, expected["raises"])
            with pytest.raises(kind) as failure:
                perform(ours, expected["call"])
            assert type(failure.value) is kind
            assert expected["says"] in str(failure.value)
            assert_harmless(str(failure.value))
        else:
            assert shown(perform(ours, expected["call"])) == expected["returns"]
        if expected["call"] != "status":
            assert len(plum.requests) == 1, "what changes something is never sent twice"


def shown(returned: object) -> object:
    if isinstance(returned, CallStatus):
        return {"word": returned.word, "is_final": returned.is_final, "content_type": returned.content_type}
    return returned


def assert_harmless(text: str) -> None:
    assert "\n" not in text
    for secret in (USER, SECRET, PHONE, "SECRETKEY", "5550123"):
        assert secret not in text


def test_every_documented_code_of_every_product_and_both_formats_are_among_the_answers() -> None:
    for product in ("insight", "fuse"):
        heads = [path.read_bytes() for path in ANSWERS if path.parent.name == product]
        assert {int(head.split()[1]) for head in heads} >= CODES
        assert any(b"application/json" in head for head in heads)
        assert any(b"text/xml" in head for head in heads)


def test_a_status_hands_on_the_exact_bytes() -> None:
    answer = next(path for path in ANSWERS if path.stem == "status-xml").read_bytes()
    with peer(answer) as plum, client("fuse", plum.url) as ours:
        assert ours.status("155761").body == answer.partition(b"\r\n\r\n")[2]


def test_a_long_error_is_cut() -> None:
    body = json.dumps({"error": "é" * 5000}).encode()
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    with peer(answer) as plum, client("fuse", plum.url) as ours, pytest.raises(api.Refused) as failure:
        perform(ours, "queue")
    assert str(failure.value).count("é") == 200


# Garbage


class Parrot:
    """An exchange that answers everything with one reply."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def send(self, *_: object, **__: object) -> Reply:
        return self._reply


def parroting(kind: type, reply: Reply) -> api.Client:
    clocks = Clocks(now=lambda: NOW, monotonic=lambda: 0.0, sleep=lambda _: None)
    pace = Pace(0, clocks.monotonic, clocks.sleep)
    return kind(Parrot(reply), Credentials(USER, SECRET), pace, Retries(clocks.sleep), clocks)


names = st.sampled_from(["call_id", "error", "success", "status", "call_details"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | names, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(names, json_values)
elements = st.tuples(names, st.text("<>&;abc12\x00é", max_size=12)).map(lambda pair: "<{0}>{1}</{0}>".format(*pair))
bodies = st.one_of(
    st.binary(max_size=200),
    objects.map(lambda value: json.dumps(value).encode()),
    st.lists(elements, max_size=4).map(lambda parts: f"<result>{''.join(parts)}</result>".encode()),
    st.sampled_from([b"[" * 100_000, b"{" * 9, b'{"a":' * 50_000, b"<a>" * 50_000]),
    st.integers(1, 6000).map(lambda digits: b'{"call_id":' + b"9" * digits + b"}"),
)
statuses = st.sampled_from([200, 202, 204, 301, 303, 400, 401, 404, 418, 429, 500, 503, 599])


@given(
    kind=st.sampled_from([DevClient, InsightClient, FuseClient]),
    call=st.sampled_from(["queue", "bulk_queue", "status", "cancel"]),
    reply=st.builds(
        Reply,
        status=statuses,
        body=bodies,
        link=st.text(max_size=40),
        location=st.text(max_size=40),
        retry_after=st.text(max_size=40) | st.sampled_from(["7", "Mon, 05 Jan 2026 12:00:00 GMT", "-1", "9" * 400]),
    ),
)
def test_no_garbage_raises_anything_but_the_typed_failures(kind: type, call: str, reply: Reply) -> None:
    if kind is DevClient and call == "cancel":
        call = "queue"
    try:
        returned = perform(parroting(kind, reply), call)
    except ApiError as failure:
        assert_harmless(str(failure))
    else:
        assert 200 <= reply.status < 300
        assert returned is None or returned == 2 or isinstance(returned, str | CallStatus)


@given(cut=st.integers(0, 10_000), answer=st.sampled_from(ANSWERS))
def test_half_of_a_documented_success_is_never_taken_for_the_whole(cut: int, answer: Path) -> None:
    expected = json.loads(answer.with_suffix(".expected.json").read_text())
    body = answer.read_bytes().partition(b"\r\n\r\n")[2]
    half = body[: cut % max(len(body.strip()) - 1, 1)]
    kind = {"dev": DevClient, "insight": InsightClient, "fuse": FuseClient}[answer.parent.name]
    if expected["call"] != "queue":
        return
    with pytest.raises(ApiError):
        perform(parroting(kind, Reply(200, half)), "queue")
