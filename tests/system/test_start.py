"""start_url: Plum probes it before it queues a call of DEV, and posts to it when the call connects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest

from tests.conftest import Cluster, wait_until
from tests.system.conftest import FORM, Answer, Installation, Sender, Service, dev_body
from tests.system.faults import UNDER_WAY_SECONDS, assert_drained, running, stopped

ENGINE = "sqlite"

VXML = "{http://www.w3.org/2001/vxml}"
FIELDS = {
    "phone_number": "16175551234",
    "call_id": "112850593",
    "message_reference": "appt-42",
    "campaign_parameters": "a=1",
    "call_parameters": "",
}


def path(sender: Sender) -> str:
    return sender.path.replace("/result/", "/start/")


def start(sender: Sender, **fields: str) -> Answer:
    body = urlencode(FIELDS | fields).encode()
    return sender.service.request("POST", path(sender), body, {"Content-Type": FORM})


def assert_ends_the_call(answer: Answer, verdict: str = "started") -> str:
    """VoiceXML 2.0 that does nothing but leave; the delivery's id."""
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/voicexml+xml"
    assert answer.headers["X-Delivery-Verdict"] == verdict
    document = ElementTree.fromstring(answer.body)  # noqa: S314  of our own service
    assert (document.tag, document.attrib) == (f"{VXML}vxml", {"version": "2.0"})
    assert [element.tag for element in document.iter()][-1] == f"{VXML}exit"
    return answer.headers["X-Delivery-Id"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("end", ["", "/"])
def test_a_probe_is_answered_completed_and_leaves_nothing(sender: Sender, method: str, end: str) -> None:
    answer = sender.service.request(method, path(sender) + end)
    assert answer.status == 200
    assert answer.headers["Content-Type"].split(";")[0] == "text/plain"
    assert answer.body == (b"" if method == "HEAD" else b"completed")
    assert sender.service.request("HEAD", f"{path(sender)}?call_id=1").status == 200
    sender.assert_nothing_stored()


def test_a_start_is_answered_with_voice_xml_and_its_fields_are_kept(sender: Sender) -> None:
    posted = assert_ends_the_call(start(sender))
    asked = assert_ends_the_call(sender.service.request("GET", f"{path(sender)}/?{urlencode(FIELDS)}"))
    kept = {delivery["id"]: delivery for delivery in sender.deliveries(verdict="started")}
    assert set(kept) == {posted, asked}
    assert sender.body_of(posted) == urlencode(FIELDS).encode()
    assert kept[asked]["query"] == urlencode(FIELDS)
    assert {one["outcome_id"] for one in kept.values()} == {one["reason"] for one in kept.values()} == {None}


def test_a_start_makes_no_outcome_and_counts_in_none(sender: Sender) -> None:
    for _ in range(3):
        start(sender)
    assert sender.outcomes() == []
    sender.assert_accepted(dev_body())
    outcome = sender.outcome()
    assert outcome["deliveries"] == 1
    [summary] = sender.service.get("summary", integration=sender.name).json()["data"]
    assert summary["count"] == 1


def deliveries_of(sender: Sender, outcome: str, **filters: object) -> list[tuple[str, str | None]]:
    found = sender.service.records(f"outcomes/{outcome}/deliveries", **filters)
    return [(one["id"], one["verdict"]) for one in found]


def test_a_start_is_among_the_deliveries_of_its_call(sender: Sender) -> None:
    first, second = (
        assert_ends_the_call(start(sender)),
        assert_ends_the_call(start(sender, phone_number="617-555-1234")),
    )
    assert_ends_the_call(start(sender, call_id="1"))
    result = sender.assert_accepted(dev_body(phone_number="tel:+16175551234;postd=2"))
    asked = assert_ends_the_call(sender.service.request("GET", f"{path(sender)}?{urlencode(FIELDS)}"))
    outcome = sender.outcome()
    told = [(asked, "started"), (result, "applied"), (second, "started"), (first, "started")]
    assert deliveries_of(sender, outcome["id"]) == told
    assert deliveries_of(sender, outcome["id"], limit=1, sort="received_at") == told[::-1]
    assert deliveries_of(sender, outcome["id"], verdict="started") == [one for one in told if one[1] == "started"]
    assert sender.deliveries(outcome_id=outcome["id"]) == sender.deliveries(verdict="applied")
    assert outcome["deliveries"] == 1
    assert {one["outcome_id"] for one in sender.deliveries(verdict="started")} == {None}


def test_a_start_is_found_by_the_call_of_a_reference(sender: Sender) -> None:
    started = assert_ends_the_call(start(sender))
    result = sender.assert_accepted(dev_body(), below="/call/appt-42")
    outcome = sender.outcome()
    assert outcome["identity"] == "reference"
    assert deliveries_of(sender, outcome["id"]) == [(result, "applied"), (started, "started")]


@pytest.mark.parametrize("other", [{"call_id": "2"}, {"message_reference": ""}, {"phone_number": "16175551235"}])
def test_a_start_of_another_call_is_not_among_them(sender: Sender, other: dict[str, str]) -> None:
    assert_ends_the_call(start(sender, **other))
    result = sender.assert_accepted(dev_body())
    assert deliveries_of(sender, sender.outcome()["id"]) == [(result, "applied")]


def test_starts_that_an_older_program_has_kept_are_found_once_they_are_read_again(sender: Sender) -> None:
    started, result = assert_ends_the_call(start(sender)), sender.assert_accepted(dev_body())
    outcome = sender.outcome()["id"]
    with sender.service.sql() as connection:
        connection.execute("UPDATE deliveries SET start_of = NULL")
    assert deliveries_of(sender, outcome) == [(result, "applied")]
    sender.service.ok("reprocess", "verdict=started", f"integration={sender.name}")
    assert deliveries_of(sender, outcome) == [(result, "applied"), (started, "started")]


@pytest.mark.parametrize("body", [b"result=Completed&call_id=1", b"\xff\x00", b'{"status":"completed"}', b"x"])
def test_any_post_to_start_url_is_a_start(sender: Sender, body: bytes) -> None:
    answer = sender.service.request("POST", path(sender), body)
    assert sender.body_of(assert_ends_the_call(answer)) == body
    assert sender.outcomes() == []


def test_an_unknown_or_disabled_key_starts_nothing(service: Service) -> None:
    gone = service.sender("start-gone")
    service.ok("integration", "disable", "start-gone")
    service.assert_everywhere_soon(404, path(gone))
    for key in (path(gone), "/start/unknown"):
        for method, body in (("GET", None), ("HEAD", None), ("POST", b"call_id=1"), ("POST", b"")):
            assert service.request(method, key, body).status == 404
    assert service.request("PUT", path(gone)).status == 404


def test_a_start_reads_masked_without_reveal(service: Service, sender: Sender) -> None:
    sender.service.request("GET", f"{path(sender)}?phone_number=16175551234")
    started = {"integration": sender.name, "verdict": "started"}
    [delivery] = service.get("deliveries", service.read_token, **started).json()["data"]
    assert "16175551234" not in json.dumps(delivery)
    assert "1234" in delivery["query"]


def test_reprocessing_leaves_a_start_unchanged(sender: Sender) -> None:
    assert_ends_the_call(start(sender, result="Completed"))
    before = sender.deliveries()
    sender.service.ok("reprocess", f"integration={sender.name}")
    assert sender.deliveries() == before
    assert sender.outcomes() == []


def test_a_start_that_is_exported_and_imported_is_one_again(
    sender: Sender, tmp_path: Path, new_database_url: Any
) -> None:
    start(sender)
    sender.service.request("GET", f"{path(sender)}?{urlencode(FIELDS)}")
    exported = sender.service.get("deliveries.ndjson", integration=sender.name).body
    (tmp_path / "log.ndjson").write_bytes(exported)
    other = Installation(new_database_url(), tmp_path)
    other.ok("migrate")
    other.ok("integration", "add", sender.name)
    found = other.json("import", "log.ndjson")
    assert {name: count for name, count in found.items() if count} == {"started": 2}
    assert {one["verdict"] for one in other.json("deliveries")} == {"started"}


def test_an_absent_store_does_not_keep_a_call_waiting(own: Cluster, tmp_path: Path) -> None:
    with running(own.create(), tmp_path, worker_count=1) as sender:
        with stopped(own):
            first = assert_ends_the_call(start(sender), "spooled")
            assert sender.service.request("GET", path(sender)).body == b"completed"
            assert sender.service.request("GET", "/start/unknown").status == 503
        wait_until(lambda: sender.service.request("GET", "/readyz").status == 200, UNDER_WAY_SECONDS)
        assert_drained(sender.service)
        wait_until(lambda: sender.service.get("deliveries").status == 200)  # a token made just now, a store just back
        [delivery] = sender.deliveries()
        assert (delivery["id"], delivery["verdict"], delivery["via"]) == (first, "started", "spool")
