"""Plum's probe, and what may stand in a result_url."""

from __future__ import annotations

import socket
from urllib.parse import quote

import pytest

from tests.system.conftest import Sender, Service, dev_body

ENGINE = "sqlite"

FORMS = ["", "/", "/call/appt-42", "/call/appt-42/", "/batch/spring", "/batch/spring/"]
REFERENCES = [  # as it stands in the URL, and what it says
    ("a", "a"),
    ("A", "A"),
    ("a/b", "a/b"),
    ("a//b", "a//b"),
    ("a%2F%2F%2Fb", "a///b"),
    ("%2Fa", "/a"),
    ("a%0A", "a\n"),
    ("a%0D%0A", "a\r\n"),
    ("a%20", "a "),
    ("a+", "a+"),
    ("a%252F", "a%2F"),
    ("a%3Fb%23", "a?b#"),
    ("a,b", "a,b"),
    ("call/x", "call/x"),
    ("..%2F..%2Fa", "../../a"),
    ("%C3%A9", "é"),
    ("e%CC%81", "e\u0301"),
    ("%F0%9F%93%9E", "📞"),
]
UNREADABLE = ["%FF", "%FE", "a%FF", "a%00", "a%EF%BF%BD", "a%C0%80", "%ED%A0%80", "%ED%A0%81"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_probe_of_every_url_form_is_answered_completed_and_leaves_nothing(
    sender: Sender, service: Service, method: str
) -> None:
    for form in FORMS:
        for query in ("", "?from=plum"):
            answer = service.request(method, sender.path + form + query)
            assert answer.status == 200, form
            assert answer.headers["Content-Type"].split(";")[0] == "text/plain"
            assert answer.body == (b"" if method == "HEAD" else b"completed")
    sender.assert_nothing_stored()


@pytest.mark.parametrize(
    "request_head",
    [
        "HEAD {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST {} HTTP/1.0\r\n\r\n",
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
    ],
)
def test_a_probe_without_bytes_is_one_in_every_spelling_of_http(
    sender: Sender, service: Service, request_head: str
) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as plum:
        plum.sendall(request_head.format(sender.path).encode())
        head, _, body = (
            plum.makefile("rb").read().replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").partition(b"\r\n\r\n")
        )
    assert head.split()[1] == b"200"
    assert body == (b"" if request_head.startswith("HEAD") else b"completed")
    sender.assert_nothing_stored()


def test_a_reference_is_percent_decoded_and_other_references_are_other_calls(sender: Sender) -> None:
    for written, _ in REFERENCES:
        sender.service.request("GET", f"{sender.path}/call/{written}").assert_completed()
        sender.assert_accepted(dev_body(), below=f"/call/{written}")
    assert sorted(outcome["reference"] for outcome in sender.outcomes()) == sorted(text for _, text in REFERENCES)


def test_references_that_no_text_can_hold_stay_different_too(sender: Sender) -> None:
    for written in UNREADABLE:
        sender.service.request("GET", f"{sender.path}/call/{written}").assert_completed()
        sender.post(dev_body(), below=f"/call/{written}").assert_completed()
    assert len(sender.outcomes()) == len(UNREADABLE)


def test_a_trailing_slash_is_no_part_of_a_reference(sender: Sender) -> None:
    sender.assert_accepted(dev_body(), below="/call/appt-42")
    sender.assert_accepted(dev_body(), below="/call/appt-42/", verdict="duplicate")
    assert sender.outcome()["reference"] == "appt-42"


def test_an_escaped_slash_at_the_end_belongs_to_the_reference(sender: Sender) -> None:
    sender.assert_accepted(dev_body(), below="/call/appt-42")
    sender.assert_accepted(dev_body(), below="/call/appt-42%2F")
    assert sorted(outcome["reference"] for outcome in sender.outcomes()) == ["appt-42", "appt-42/"]


def test_a_slash_in_a_reference_may_be_escaped_or_not(sender: Sender) -> None:
    sender.assert_accepted(dev_body(), below="/call/west/42")
    sender.assert_accepted(dev_body(), below="/call/west%2F42", verdict="duplicate")
    assert sender.outcome()["reference"] == "west/42"


def test_a_batch_is_only_a_label(sender: Sender) -> None:
    sender.assert_accepted(dev_body(call_id="1"), below="/batch/west%2Fphase%202")
    sender.assert_accepted(dev_body(call_id="2"), below="/batch/west%2Fphase%202/")
    found = [(one["batch"], one["reference"], one["identity"]) for one in sender.outcomes()]
    assert found == [("west/phase 2", None, "call_id")] * 2


@pytest.mark.parametrize("kind", ["call", "batch"])
@pytest.mark.parametrize("name", ["", "/", "x" * 256, "📞" * 256])
def test_a_name_of_no_or_256_characters_is_not_found(sender: Sender, service: Service, kind: str, name: str) -> None:
    for method, body in (("GET", None), ("HEAD", None), ("POST", None), ("POST", dev_body())):
        path = f"{sender.path}/{kind}{'/' if name not in ('', '/') else ''}{quote(name)}"
        assert service.request(method, path, body).status == 404
    sender.assert_nothing_stored()


@pytest.mark.parametrize("kind", ["call", "batch"])
@pytest.mark.parametrize("name", ["x", "x" * 255, "📞" * 255])
def test_a_name_of_1_to_255_characters_is_fine(sender: Sender, service: Service, kind: str, name: str) -> None:
    path = f"{sender.path}/{kind}/{quote(name)}"
    for method in ("GET", "HEAD", "POST"):
        assert service.request(method, path).status == 200
    service.request("POST", path, dev_body()).assert_completed()
    assert sender.outcome()["reference" if kind == "call" else "batch"] == name


def test_an_unknown_key_is_not_found_by_any_method_in_any_form(service: Service) -> None:
    for key in ("unknown", "%00", "%FF", "%F0%9F%93%9E", "%0A", "k" * 2000, "%ED%A0%80"):
        for form in FORMS:
            for method, body in (("GET", None), ("HEAD", None), ("POST", None), ("POST", dev_body())):
                assert service.request(method, f"/result/{key}{form}", body).status == 404


def test_a_key_is_compared_exactly(shared_sender: Sender, service: Service) -> None:
    for key in (
        shared_sender.key.swapcase(),
        f"{shared_sender.key}%00",
        f"{shared_sender.key}%20",
        f" {shared_sender.key}",
    ):
        assert service.request("GET", f"/result/{quote(key, safe='%')}").status == 404


def test_a_disabled_key_is_not_found_in_every_worker_soon(service: Service) -> None:
    sender = service.sender("to-be-disabled")
    sender.assert_accepted(dev_body())
    assert {answer.status for answer in service.through_each_worker("GET", sender.path)} == {200}
    service.ok("integration", "disable", sender.name)
    service.assert_everywhere_soon(404, sender.path)
    assert {answer.status for answer in service.through_each_worker("POST", sender.path, dev_body())} == {404}
    assert len(sender.deliveries()) == 1


def test_rotating_with_grace_keeps_the_old_key_and_without_ends_it_soon(service: Service) -> None:
    sender = service.sender("to-be-rotated")
    assert {answer.status for answer in service.through_each_worker("GET", sender.path)} == {200}
    second = service.know(service.json("integration", "rotate", sender.name, "--grace", "7d")["key"])
    for key in (sender.key, second):
        assert {answer.status for answer in service.through_each_worker("GET", f"/result/{key}")} == {200}
    third = service.know(service.json("integration", "rotate", sender.name, "--grace", "0s")["key"])
    service.assert_everywhere_soon(404, sender.path)
    service.assert_everywhere_soon(404, f"/result/{second}")
    assert {answer.status for answer in service.through_each_worker("GET", f"/result/{third}")} == {200}
