"""Whatever is posted with a valid key is kept to the byte, and never costs more than its own reading."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import zlib
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse

import pytest

from tests.system.conftest import FORM, Answer, Sender, Service, dev_body, exchange

LIMIT = 1048576
JSON = "application/json"
XML = "text/xml"
MULTIPART = "multipart/form-data; boundary=cut"
APPLIED = "applied"
READ_OR_NOT = "either"  # the contract leaves open whether something can be made of it


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


PNG = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", b"\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0")
    + chunk(b"IDAT", zlib.compress(b"\0\0\0\0"))
    + chunk(b"IEND", b"")
)
BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">%s]><result><status>&l9;</status></result>' % b"".join(
    b'<!ENTITY l%d "%s">' % (level, (b"&l%d;" % (level - 1) if level else b"&a;") * 10) for level in range(10)
)
FILE = b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><result><status>&f;</status></result>'

# name → content type, body, `applied`, or the reason of its quarantine
HOSTILE: dict[str, tuple[str | None, bytes, str]] = {
    "nul escaped in JSON": (JSON, rb'{"status":"com\u0000pleted","attempts":"1"}', APPLIED),
    "nul escaped in a name": (JSON, rb'{"status":"completed","attempts":"1","\u0000":"\u0000"}', APPLIED),
    "nul escaped in a form": (FORM, b"result=Completed&callee_type=voice&call_id=1%002&x%00=%00", APPLIED),
    "nul raw in a form": (FORM, b"result=Completed&callee_type=voice&call_id=3\x004", READ_OR_NOT),
    "lone surrogate": (
        JSON,
        rb'{"result":"Completed","callee_type":"\udfff","call_id":"\ud800","x":"\udc00"}',
        APPLIED,
    ),
    "lone surrogate in a name": (
        JSON,
        rb'{"result":"Completed","callee_type":"voice","\ud800":{"\ud800":"\ud800"}}',
        APPLIED,
    ),
    "surrogate as UTF-8": (FORM, b"result=Completed&callee_type=voice&call_id=%ED%A0%80", APPLIED),
    "NaN": (JSON, b'{"status":"completed","attempts":NaN,"x":NaN}', READ_OR_NOT),
    "Infinity": (JSON, b'{"status":"completed","attempts":-Infinity,"x":[Infinity]}', READ_OR_NOT),
    "1e999": (JSON, b'{"status":"completed","attempts":1e999,"queued_timestamp":1e999,"x":-1e999}', APPLIED),
    "10 to the 30": (
        JSON,
        b'{"status":"completed","attempts":1%s,"queued_timestamp":1%s}' % (b"0" * 30, b"0" * 30),
        APPLIED,
    ),
    "5,000 digits": (JSON, b'{"status":"completed","attempts":%s,"x":%s}' % (b"9" * 5000, b"9" * 5000), READ_OR_NOT),
    "5,000 digits as text": (FORM, b"result=Completed&callee_type=voice&attempts=" + b"9" * 5000, APPLIED),
    "superscript digits": (JSON, '{"status":"completed","attempts":"²","queued_timestamp":"١٤"}'.encode(), APPLIED),
    "duplicate keys": (JSON, b'{"status":"completed","status":"failed","attempts":1}', APPLIED),
    "deep JSON": (JSON, b"[" * 100_000 + b"]" * 100_000, "too_deep"),
    "deep objects": (JSON, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep"),
    "deep JSON without an end": (JSON, b'{"status":' * 100_000, READ_OR_NOT),
    "deep extra": (JSON, b'{"status":"completed","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", READ_OR_NOT),
    "deep brackets": (FORM, b"result=Completed&callee_type=voice&x" + b"[a]" * 20_000 + b"=1", READ_OR_NOT),
    "deep XML": (XML, b"<a>" * 100_000 + b"</a>" * 100_000, READ_OR_NOT),
    "multipart without parts": (MULTIPART, b"--cut--\r\n", READ_OR_NOT),
    "multipart cut in a header": (MULTIPART, b"--cut\r\nContent-Disposition: form-da", "not_form"),
    "multipart of junk": (MULTIPART, b"--cut\r\n\r\n\r\n--cut\r\n\0\0\r\n--cut--", READ_OR_NOT),
    "multipart of another boundary": (
        MULTIPART,
        b'--x\r\nContent-Disposition: form-data; name="result"\r\n\r\n1',
        READ_OR_NOT,
    ),
    "unknown charset": (f"{JSON}; charset=nonsense", '{"status":"completed","x":"é"}'.encode(), APPLIED),
    "charset that is no text": (f"{FORM}; charset=zlib", b"result=Completed&callee_type=voice", APPLIED),
    "charset that turns letters": (f"{FORM}; charset=rot13", b"result=Completed&callee_type=voice", APPLIED),
    "charset with a nul": (f'{FORM}; charset="utf-8%00"', b"result=Completed&callee_type=voice", APPLIED),
    "declared ASCII": (f"{JSON}; charset=ascii", '{"status":"completed","x":"é"}'.encode(), APPLIED),
    "declared UTF-8, sent Latin-1": (
        f"{JSON}; charset=utf-8",
        '{"status":"completed","x":"é"}'.encode("latin-1"),
        APPLIED,
    ),
    "5,000 fields": (
        FORM,
        b"result=Completed&callee_type=voice&" + b"&".join(b"f%d=%d" % (n, n) for n in range(5000)),
        APPLIED,
    ),
    "5,000 times the same field": (FORM, b"callee_type=voice" + b"&result=Completed" * 5000, APPLIED),
    "5,000 events": (
        JSON,
        json.dumps({"status": "failed", "events": [{"event": "x", "timestamp": 1475095892}] * 5000}).encode(),
        APPLIED,
    ),
    "events of junk": (
        JSON,
        b'{"status":"failed","events":[1,null,"x",[],{},{"event":{}},{"timestamp":[]}]}',
        APPLIED,
    ),
    "events that are none": (JSON, b'{"status":"failed","events":{"event":"x"}}', APPLIED),
    "fields of wrong kinds": (
        JSON,
        b'{"status":{},"attempts":[],"queued_timestamp":true,"duration":{"a":1}}',
        APPLIED,
    ),
    "a field of 1 MiB": (FORM, b"result=Completed&callee_type=voice&x=".ljust(LIMIT, b"x"), APPLIED),
    "a phone of 1 MiB": (FORM, b"result=Completed&callee_type=voice&phone_number=".ljust(LIMIT, b"1"), APPLIED),
    "a time of 1 MiB": (
        FORM,
        b"result=Completed&callee_type=voice&last_attempt_timestamp=".ljust(LIMIT, b"("),
        APPLIED,
    ),
    "a million ampersands": (FORM, b"result=Completed&callee_type=voice".ljust(LIMIT, b"&"), APPLIED),
    "a call_id of 100,000": (FORM, b"result=Completed&callee_type=voice&call_id=".ljust(100_000, b"7"), APPLIED),
    "a year far off": (JSON, b'{"status":"completed","queued_timestamp":99999999999999999999}', APPLIED),
    "PNG": ("image/png", PNG, "not_text"),
    "PNG as a form": (FORM, PNG, READ_OR_NOT),
    "gzip": ("application/gzip", gzip.compress(dev_body(), mtime=0), "not_text"),
    "white space": (FORM, b" \r\n\t \n", "empty"),
    "JSON cut": (JSON, b'{"status":"completed"', "not_json"),
    "JSON null": (JSON, b"null", READ_OR_NOT),
    "JSON list": (JSON, b"[]", READ_OR_NOT),
    "JSON of others": (JSON, b'{"hello":"world"}', "no_known_field"),
    "a form of others": (FORM, b"hello=world", "no_known_field"),
    "XML cut": (XML, b"<result><call_details><status>completed</sta", "not_xml"),
    "XML bomb": (XML, BOMB, "not_xml"),
    "XML with a file": (XML, FILE, "not_xml"),
    "no content type": (None, dev_body(), APPLIED),
    "a content type of junk": (";;=,\xff", dev_body(call_id="7"), APPLIED),
    "broken escapes": (FORM, b"result=Completed&callee_type=voice&x=%&y=%zz&%=%u1234", APPLIED),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_acknowledged_and_kept_to_the_byte(shared_sender: Sender, name: str) -> None:
    content_type, body, expected = HOSTILE[name]
    answer = shared_sender.post(body, content_type, f"/batch/{name.replace(' ', '-')}").assert_completed()
    delivery_id = answer.headers["X-Delivery-Id"]
    assert shared_sender.body_of(delivery_id) == body
    delivery = shared_sender.service.get(f"deliveries/{delivery_id}").json()
    assert delivery["verdict"] == answer.headers["X-Delivery-Verdict"]
    if expected == APPLIED:
        assert (delivery["verdict"], delivery["reason"]) == ("applied", None)
    elif expected == READ_OR_NOT:
        assert delivery["verdict"] in ("applied", "quarantined")
    else:
        assert (delivery["verdict"], delivery["reason"]) == ("quarantined", expected)
    assert (delivery["outcome_id"] is not None) == (delivery["verdict"] == "applied")
    if delivery["outcome_id"]:
        assert shared_sender.service.get(f"outcomes/{delivery['outcome_id']}").status == 200


def test_after_all_hostile_bodies_every_list_page_is_sound_and_quarantine_makes_no_outcome(sender: Sender) -> None:
    for content_type, body, _ in HOSTILE.values():
        sender.post(body, content_type).assert_completed()
    deliveries = sender.deliveries(limit=7)
    assert len(deliveries) == len(HOSTILE)
    understood = {delivery["outcome_id"] for delivery in deliveries if delivery["verdict"] != "quarantined"}
    assert {outcome["id"] for outcome in sender.outcomes(limit=7)} == understood


def test_bad_values_are_told_as_problems(sender: Sender) -> None:
    sender.assert_accepted(HOSTILE["10 to the 30"][1], JSON)
    outcome = sender.outcome()
    assert (outcome["attempts"], outcome["queued_at"], outcome["status"]) == (None, None, "completed")
    assert sorted(problem["field"] for problem in outcome["problems"]) == ["attempts", "queued_timestamp"]


def test_of_a_field_given_twice_the_first_counts_and_all_are_kept(sender: Sender) -> None:
    sender.assert_accepted(HOSTILE["duplicate keys"][1], JSON)
    outcome = sender.outcome()
    assert outcome["status"] == "completed"
    assert "failed" in json.dumps(outcome["extra"])
    assert [problem["field"] for problem in outcome["problems"]] == ["status"]


def test_a_delivery_shows_everything_that_was_received(sender: Sender) -> None:
    answer = sender.service.request(
        "POST", f"{sender.path}/batch/spring?a=1&a=%20", dev_body(), {"Content-Type": FORM, "X-Plum": "yes"}
    )
    delivery = sender.service.get(f"deliveries/{answer.headers['X-Delivery-Id']}").json()
    assert {name: delivery[name] for name in ("integration", "product", "via", "verdict", "reason", "query")} == {
        "integration": sender.name,
        "product": "dev",
        "via": "http",
        "verdict": "applied",
        "reason": None,
        "query": "a=1&a=%20",
    }
    assert (delivery["content_type"], delivery["remote_addr"]) == (FORM, "127.0.0.1")
    assert (delivery["reference"], delivery["batch"], delivery["problems"]) == (None, "spring", [])
    assert (delivery["size"], delivery["sha256"]) == (len(dev_body()), hashlib.sha256(dev_body()).hexdigest())
    assert "X-Plum" in json.dumps(delivery["headers"])
    assert delivery["outcome_id"] == sender.outcome()["id"]


def test_neither_secrets_nor_the_key_are_stored(sender: Sender) -> None:
    headers = {
        "Authorization": "Basic c2VjcmV0LW9uZQ==",
        "Proxy-Authorization": "Basic c2VjcmV0LXR3bw==",
        "Cookie": "session=secret-three",
        "Referer": sender.result_url,
        "X-Original-URI": sender.path,
    }
    answer = sender.post(dev_body(), **headers).assert_completed()
    shown = sender.service.get(f"deliveries/{answer.headers['X-Delivery-Id']}").body.decode()
    for secret in ("c2VjcmV0LW9uZQ", "c2VjcmV0LXR3bw", "secret-three", sender.key, sender.service.token):
        assert secret not in shown
        assert secret not in sender.service.everything_stored()


# --- sizes, chunks and cut bodies


def in_pieces(body: bytes, size: int = 60_000) -> Iterator[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


def test_a_body_over_the_limit_is_too_large_with_and_without_a_length(sender: Sender, service: Service) -> None:
    body = dev_body().ljust(LIMIT + 1, b"&")
    assert sender.post(body).status == 413
    assert service.request("POST", sender.path, in_pieces(body)).status == 413
    sender.assert_nothing_stored()


def test_a_body_of_just_the_limit_is_fine_with_and_without_a_length(sender: Sender, service: Service) -> None:
    body = dev_body().ljust(LIMIT, b"&")
    sender.assert_accepted(body)
    answer = service.request("POST", sender.path, in_pieces(body)).assert_completed()
    assert answer.headers["X-Delivery-Verdict"] == "duplicate"
    assert sender.body_of(answer.headers["X-Delivery-Id"]) == body


def test_a_chunked_body_is_kept_without_its_chunks(sender: Sender, service: Service) -> None:
    answer = service.request("POST", sender.path, in_pieces(dev_body(), 7), {"Content-Type": FORM}).assert_completed()
    assert answer.headers["X-Delivery-Verdict"] == "applied"
    assert sender.body_of(answer.headers["X-Delivery-Id"]) == dev_body()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_connection_works_after_a_body_that_was_too_large(sender: Sender, *, chunked: bool) -> None:
    large = b"x" * (LIMIT + 1)
    with closing(HTTPConnection("127.0.0.1", sender.service.port, timeout=30)) as plum:
        for number in range(3):
            assert exchange(plum, "POST", sender.path, in_pieces(large) if chunked else large).status == 413
            connected = plum.sock
            exchange(plum, "POST", sender.path, dev_body(call_id=str(number))).assert_completed()
            assert plum.sock is connected is not None
    assert len(sender.outcomes()) == 3


def talk(service: Service, *parts: bytes, hang_up: bool = False) -> bytes:
    """What comes back for these bytes, until the service closes or, if we hang up, has nothing to say."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as plum:
        for part in parts:
            plum.sendall(part)
        if hang_up:
            plum.shutdown(socket.SHUT_WR)
        return plum.makefile("rb").read()


def head(sender: Sender, *lines: str) -> bytes:
    return "\r\n".join([f"POST {sender.path} HTTP/1.1", "Host: x", f"Content-Type: {FORM}", *lines, "", ""]).encode()


def test_a_sender_that_expects_100_continue_gets_it(sender: Sender) -> None:
    body = dev_body().ljust(2000, b"&")
    with socket.create_connection(("127.0.0.1", sender.service.port), timeout=30) as plum:
        plum.sendall(head(sender, "Expect: 100-continue", "Connection: close", f"Content-Length: {len(body)}"))
        answers = plum.makefile("rb")
        assert answers.readline().split()[:2] == [b"HTTP/1.1", b"100"]
        assert answers.readline() == b"\r\n"
        plum.sendall(body)
        assert answers.readline().split()[1] == b"200"
        assert answers.read().endswith(b"\r\n\r\ncompleted")
    assert sender.body_of(sender.deliveries()[0]["id"]) == body


@pytest.mark.parametrize("length", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("sent", [0, 100])
def test_a_body_cut_short_is_not_acknowledged_and_never_applied(sender: Sender, length: str, sent: int) -> None:
    part = dev_body()[:sent]
    if "chunked" in length and part:
        part = b"%x\r\n%s\r\n" % (len(part), part)
    answer = talk(sender.service, head(sender, length), part, hang_up=True)
    assert b" 200 " not in answer.partition(b"\r\n")[0]
    assert sender.outcomes() == []
    kept = {(delivery["verdict"], delivery["reason"]) for delivery in sender.deliveries()}
    assert kept <= {("quarantined", "cut_short")}
    sender.assert_accepted(dev_body())


def test_more_bytes_than_declared_are_not_taken_for_this_body(sender: Sender) -> None:
    body = dev_body()
    with socket.create_connection(("127.0.0.1", sender.service.port), timeout=30) as plum:
        plum.sendall(head(sender, f"Content-Length: {len(body)}") + body + b"&result=Failed")
        with closing(HTTPResponse(plum)) as answer:  # reads this answer alone: what follows it is not ours to say
            answer.begin()
            assert (answer.status, answer.read()) == (200, b"completed")
    assert sender.body_of(sender.deliveries()[0]["id"]) == body


def test_another_method_is_refused_and_leaves_nothing(sender: Sender, service: Service) -> None:
    for method in ("PUT", "DELETE", "PATCH"):
        answer: Answer = service.request(method, sender.path, dev_body())
        assert answer.status == 405
        assert {"GET", "HEAD", "POST"} <= set(answer.headers["Allow"].replace(" ", "").split(","))
    sender.assert_nothing_stored()
