"""Which call is it: one call is one outcome, in whatever order, repetition or crowd its deliveries come."""

from __future__ import annotations

import json
from collections import Counter
from itertools import permutations
from typing import Any

import pytest

from tests.system.conftest import Sender, Service, dev_body, together

CLOCKED = {"received_at", "updated_at"}  # what the order of arrival may show in
LATER = "Mon, 19 Jul 2004 14:46:03 -0400"

INSIGHT = {
    "status": "canceled",
    "attempts": "1",
    "queued_timestamp": "1429214458",
    "last_attempt_timestamp": "1429214474",
}
FUSE = {"status": "completed", "phone_number": "'6175551234'", "queued_timestamp": "1475095892", "duration": 3}


def fuse(attempts: int, last_event: int, status: str, **others: object) -> bytes:
    events = [{"event": "queued", "timestamp": 1475095892}, {"event": "dialing", "timestamp": last_event}]
    return json.dumps(FUSE | {"attempts": attempts, "status": status, "events": events} | others).encode()


STATES = {  # each later one is newer: by attempts, time of evidence, finality; the last two differ in a detail only
    "dev": [
        dev_body(result="Failed", callee_type="busy", attempts="1", duration=None, last_attempt_timestamp=LATER),
        dev_body(result="Failed", callee_type="noanswer", attempts="2", duration=""),
        dev_body(result="Dialing", attempts="2", last_attempt_timestamp=LATER),
        dev_body(result="Completed", attempts="2", last_attempt_timestamp=LATER, duration="37", x="1"),
        dev_body(result="Completed", attempts="2", last_attempt_timestamp=LATER, duration="38"),
    ],
    "fuse": [
        fuse(1, 1475099999, "failed"),
        fuse(2, 1475095900, "failed", duration=None),
        fuse(2, 1475095999, "dialing"),
        fuse(2, 1475095999, "completed", end_timestamp="1475095928"),
        fuse(2, 1475095999, "completed", duration=4),
    ],
    "insight": [
        json.dumps(INSIGHT | {"attempts": "1", "last_attempt_timestamp": "1429999999"}).encode(),
        json.dumps(INSIGHT | {"attempts": "2", "status": "failed"}).encode(),
        json.dumps(INSIGHT | {"attempts": "2", "last_attempt_timestamp": "1429214475", "status": "odd"}).encode(),
        json.dumps(INSIGHT | {"attempts": 2, "last_attempt_timestamp": 1429214475, "status": "rejected"}).encode(),
        json.dumps(INSIGHT | {"attempts": "2", "last_attempt_timestamp": "1429214475", "max_attempts": "3"}).encode(),
    ],
}


def told(sender: Sender) -> dict[str, Any]:
    """Its one outcome, less what the order of arrival may show in."""
    return {name: value for name, value in sender.outcome().items() if name not in CLOCKED}


def test_64_simultaneous_posts_of_one_call_are_one_outcome_and_64_deliveries(sender: Sender) -> None:
    answers = together(64, lambda _: sender.post(dev_body()))
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"completed")}
    assert Counter(answer.headers["X-Delivery-Verdict"] for answer in answers) == {"applied": 1, "duplicate": 63}
    outcome = sender.outcome()
    assert (outcome["identity"], outcome["deliveries"], outcome["possible_duplicate"]) == ("call_id", 64, False)
    ids = {answer.headers["X-Delivery-Id"] for answer in answers}
    assert {delivery["id"] for delivery in sender.deliveries()} == ids
    of_outcome = sender.service.records(f"outcomes/{outcome['id']}/deliveries")
    assert {delivery["id"] for delivery in of_outcome} == ids
    assert len(ids) == 64


def test_64_simultaneous_posts_of_many_states_give_the_newest(sender: Sender) -> None:
    answers = together(64, lambda number: sender.post(dev_body(attempts=str(number % 32 + 1))))
    assert {answer.status for answer in answers} == {200}
    outcome = sender.outcome()
    assert (outcome["attempts"], outcome["deliveries"]) == (32, 64)


def test_simultaneous_posts_of_many_calls_are_as_many_outcomes(sender: Sender) -> None:
    answers = together(64, lambda number: sender.post(dev_body(call_id=str(number % 16))))
    assert {answer.status for answer in answers} == {200}
    assert [outcome["deliveries"] for outcome in sender.outcomes()] == [4] * 16


@pytest.mark.parametrize("product", STATES)
def test_every_order_of_a_calls_states_gives_the_same_outcome(sender: Sender, product: str) -> None:
    states, results = STATES[product], []
    for order in list(permutations(states))[::5]:
        for state in order:
            sender.post(state, "application/json", "/call/a").assert_completed()
        results.append(told(sender))
        sender.forget()
    assert results == [results[0]] * 24
    assert (results[0]["attempts"], results[0]["deliveries"], results[0]["product"]) == (2, len(states), product)
    assert results[0]["status"] in ("completed", "rejected", "canceled")


@pytest.mark.parametrize("product", STATES)
def test_states_posted_at_once_give_the_same_outcome_as_one_after_another(sender: Sender, product: str) -> None:
    states, results = STATES[product] * 2, []
    for crowd in (1, 10, 10, 10, 10):
        for first in range(0, len(states), crowd):
            some = states[first : first + crowd]
            together(
                crowd, lambda n, some=some: sender.post(some[n], "application/json", "/call/a").assert_completed()
            )
        results.append(told(sender))
        sender.forget()
    assert results == [results[0]] * 5
    assert results[0]["deliveries"] == len(states)


def test_the_newest_reading_wins_whole(sender: Sender) -> None:
    sender.assert_accepted(dev_body(attempts="2", duration=None, callee_type=None), below="/call/a")
    sender.assert_accepted(dev_body(attempts="1", duration="37", x="kept"), below="/call/a", verdict="superseded")
    outcome = sender.outcome()
    assert (outcome["attempts"], outcome["duration_seconds"], outcome["callee_type_raw"]) == (2, None, None)
    assert (outcome["extra"], outcome["deliveries"]) == ({}, 2)


def test_the_same_reading_in_another_encoding_is_a_duplicate(sender: Sender) -> None:
    fields = {"status": "canceled", "attempts": "1", "events": [{"event": "queued", "timestamp": "1429214465"}]}
    php = b"status=canceled&attempts=1&events[0][event]=queued&events[0][timestamp]=1429214465"
    xml = (
        b"<result><call_details><status>canceled</status><attempts>1</attempts><events><item>"
        b"<event>queued</event><timestamp>1429214465</timestamp></item></events></call_details></result>"
    )
    assert sender.post_json(fields, "/call/a").headers["X-Delivery-Verdict"] == "applied"
    assert (
        sender.post_json({"success": True, "call_details": fields}, "/call/a").headers["X-Delivery-Verdict"]
        == "duplicate"
    )
    sender.assert_accepted(php, below="/call/a", verdict="duplicate")
    sender.assert_accepted(xml, "text/xml", "/call/a", verdict="duplicate")
    assert sender.outcome()["deliveries"] == 4


def test_dev_calls_differ_by_call_id_message_reference_or_phone(sender: Sender) -> None:
    for change in ({}, {"call_id": "2"}, {"message_reference": "b"}, {"phone_number": "6175551234"}):
        sender.assert_accepted(dev_body(**change))
    sender.assert_accepted(dev_body(message_reference=None))
    sender.assert_accepted(dev_body(message_reference=""), verdict="duplicate")
    assert {outcome["identity"] for outcome in sender.outcomes()} == {"call_id"}
    assert len(sender.outcomes()) == 5


def test_fuse_calls_are_identified_by_phone_and_time_of_queueing(sender: Sender) -> None:
    for change in ({}, {"phone_number": "6175551234"}, {"queued_timestamp": 1475095893}):
        assert sender.post_json(FUSE | change).headers["X-Delivery-Verdict"] == "applied"
    same = sender.post_json({"call_details": FUSE | {"queued_timestamp": 1475095892}})
    assert same.headers["X-Delivery-Verdict"] == "duplicate"
    assert [outcome["identity"] for outcome in sender.outcomes()] == ["derived"] * 3


def test_one_integrations_calls_are_not_anothers(sender: Sender, shared_sender: Sender, service: Service) -> None:
    body = dev_body(call_id="of two integrations")
    first, second = (service.get(f"deliveries/{one.assert_accepted(body)}").json() for one in (sender, shared_sender))
    assert first["outcome_id"] != second["outcome_id"]


@pytest.mark.parametrize("simultaneous", [True, False])
def test_insight_calls_with_the_same_body_are_as_many_outcomes_all_marked(
    sender: Sender, *, simultaneous: bool
) -> None:
    for _ in range(1 if simultaneous else 12):
        together(12 if simultaneous else 1, lambda _: sender.post_json(INSIGHT, "/batch/spring").assert_completed())
    outcomes = sender.outcomes()
    assert len({outcome["id"] for outcome in outcomes}) == 12
    assert {(one["identity"], one["possible_duplicate"], one["deliveries"]) for one in outcomes} == {
        ("none", True, 1)
    }
    assert len(sender.deliveries(verdict="applied")) == 12


def test_only_the_same_body_of_the_same_integration_marks_a_possible_duplicate(
    sender: Sender, shared_sender: Sender
) -> None:
    body = INSIGHT | {"reattempt_wait": "77"}
    shared_sender.post_json(body).assert_completed()
    sender.post_json(body).assert_completed()
    sender.post_json(body | {"attempts": "2"}).assert_completed()
    sender.post_json(body, "/call/named").assert_completed()
    assert [outcome["possible_duplicate"] for outcome in sender.outcomes()] == [False] * 3
