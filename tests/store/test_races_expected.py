"""Expected calls are registered, queued, looked for and removed while their results arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from app.interpret import interpret_all
from app.model import CallState, Integration, Product, Via
from app.outbound import queueing, reconciling
from app.outbound.queueing import QueueTarget
from app.outbound.reconciling import Reconciler
from app.plum.client import CallRequest, CallStatus, NothingQueued
from app.store import expected, integrations, missing, retention
from app.store.database import Database
from app.store.query.question import Records
from app.store.readings import save
from app.store.schema import expected_calls, outcomes
from tests.store.interleaving import Gate, before, behind, rows
from tests.store.test_expected import LATER, NOON, call, outcome, post, post_dev, registered

TARGET = QueueTarget(Integration("ours", Product.INSIGHT), "http://x/result/K", "http://x/start/K", "US")
REQUEST = CallRequest(result_url="", phone="6175551234", reference="r-1")
TOMORROW = NOON + timedelta(days=1)


def reconciler(database: Database, answer: CallStatus | None = None) -> Reconciler:
    return Reconciler(
        database,
        interpret_all,
        lambda readings: save(database, readings),
        lambda product, call_id: answer,
        lambda: NOON + timedelta(hours=1),
    )


def test_a_call_id_that_becomes_known_while_the_reconciler_looks_keeps_the_call_due(
    crowded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = call(ends_at=NOON)
    expected.register(crowded, [one])
    integrations.add_integration(crowded, "ours", Product.INSIGHT, NOON)
    gate = before(monkeypatch, missing, "settle")
    gate.run(crowded, reconciler(crowded).step, lambda: expected.register(crowded, [one._replace(call_id="7")]))
    known = registered(crowded, one.id)
    assert known.call_id == "7"
    assert known.due_at is not None


def test_a_call_that_is_queued_again_is_polled(crowded: Database) -> None:
    one = call(ends_at=NOON)
    expected.add(crowded, [one])
    missing.settle(crowded, one, CallState.MISSING, None, None)
    expected.note_queued(crowded, [one.id], "7", NOON)
    assert registered(crowded, one.id).due_at is not None


def test_two_reconcilers_give_two_calls_two_results(crowded: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    integrations.add_integration(crowded, "ours", Product.INSIGHT, NOON)
    calls = [call(None, call_id, batch="spring", ends_at=NOON) for call_id in ("7", "8")]
    expected.register(crowded, calls)
    posted = {post(crowded, LATER, None, batch="spring") for _ in calls}
    monkeypatch.setattr(reconciling, "AT_ONCE", 1)
    answer = CallStatus(LATER, None, "completed", True)
    gate = behind(monkeypatch, missing, "find_twin")
    gate.run(crowded, reconciler(crowded, answer).step, reconciler(crowded, answer).step)
    assert {registered(crowded, one.id).outcome_id for one in calls} == posted


def test_a_call_does_not_take_the_result_that_another_has_just_polled(
    crowded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plum tells the same of both, as of calls that are canceled together."""
    integrations.add_integration(crowded, "ours", Product.INSIGHT, NOON)
    calls = [call(None, call_id, batch="spring", ends_at=NOON) for call_id in ("7", "8")]
    expected.register(crowded, calls)
    monkeypatch.setattr(reconciling, "AT_ONCE", 1)
    answer = CallStatus(LATER, None, "completed", True)
    gate = before(monkeypatch, missing, "link")
    gate.run(crowded, reconciler(crowded, answer).step, reconciler(crowded, answer).step)
    assert len({registered(crowded, one.id).outcome_id for one in calls}) == 2


def test_a_result_that_arrives_while_plums_answer_is_linked_stays_the_calls_result(
    crowded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    integrations.add_integration(crowded, "ours", Product.FUSE, NOON)
    one = call(None, "7", phone_number="+16175551234", batch="spring", ends_at=NOON)
    expected.register(crowded, [one])
    body = b'{"status":"completed","phone_number":"16175551234","queued_timestamp":"1772971200"}'
    gate = before(monkeypatch, missing, "link")
    _, result = gate.run(
        crowded,
        reconciler(crowded, CallStatus(LATER, None, "completed", True)).step,
        lambda: post(crowded, body, None, product=Product.FUSE, batch="spring"),
    )
    known = registered(crowded, one.id)
    assert (known.state, known.outcome_id) == (CallState.RECEIVED, result)


# --- queueing


def plum(act: Callable[[], str]) -> Callable[[Product], AbstractContextManager[Any]]:
    return lambda product: nullcontext(SimpleNamespace(queue=lambda sent: act()))


def test_a_refused_request_forgets_no_call_that_another_has_queued_meanwhile(crowded: Database) -> None:
    def refuse() -> str:
        queued = queueing.queue(crowded, plum(lambda: "77"), TARGET, REQUEST, lambda: NOON, again=True)
        assert queued.call_id == "77"
        raise NothingQueued("refused")

    with pytest.raises(NothingQueued):
        queueing.queue(crowded, plum(refuse), TARGET, REQUEST, lambda: NOON)
    assert [known.call_id for known in rows(crowded, expected_calls)] == ["77"]


def test_a_refused_request_forgets_no_call_that_another_has_registered_meanwhile(crowded: Database) -> None:
    def refuse() -> str:
        one = call(phone_number="+16175551234", metadata={"who": "Ann"})
        expected.register(crowded, [one._replace(call_id="7")])
        raise NothingQueued("refused")

    with pytest.raises(NothingQueued):
        queueing.queue(crowded, plum(refuse), TARGET, REQUEST, lambda: NOON)
    assert [known.call_id for known in rows(crowded, expected_calls)] == ["7"]


# --- results


def test_metadata_that_is_registered_while_a_call_id_is_noted_stays(
    crowded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = call()
    expected.add(crowded, [one])
    key = post(crowded, LATER)
    gate = before(monkeypatch, expected, "_complete")
    gate.run(
        crowded,
        lambda: expected.note_queued(crowded, [one.id], "7", NOON),
        lambda: expected.register(crowded, [one._replace(metadata={"who": "Ann"})]),
    )
    made = outcome(crowded, key)
    assert (made.call_id, made.metadata) == ("7", {"who": "Ann"})


def test_of_two_calls_that_are_registered_at_once_the_same_one_gives(
    crowded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_id = call(None, "7", integration="ours-dev", metadata={"from": "id"})
    by_reference = call("m-1", integration="ours-dev", metadata={"from": "reference"})
    first, other = sorted([by_id, by_reference], key=lambda one: one.id)
    key = post_dev(crowded, "7", message_reference="m-1")
    gate = before(monkeypatch, expected, "_complete")
    gate.run(crowded, lambda: expected.register(crowded, [other]), lambda: expected.register(crowded, [first]))
    assert outcome(crowded, key).metadata == first.metadata


def test_a_received_call_does_not_become_polled(crowded: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The callback spells the number in another way than Plum's answer, so that each is an outcome by itself."""
    one = call(None, None, batch="spring", phone_number="+16175551234")
    expected.register(crowded, [one])

    def told(number: bytes, via: Via) -> UUID | None:
        body = b'{"status":"completed","phone_number":"%s","duration":"3","queued_timestamp":"1772971200"}' % number
        return post(crowded, body, None, via, batch="spring", product=Product.FUSE)

    gate = before(monkeypatch, expected, "note_results")
    gate.run(crowded, lambda: told(b"+16175551234", Via.POLL), lambda: told(b"6175551234", Via.HTTP))
    assert registered(crowded, one.id).state is CallState.RECEIVED


def test_a_polled_call_does_not_become_received(crowded: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    one = call()
    expected.register(crowded, [one])
    gate = before(monkeypatch, expected, "_results")
    gate.run(crowded, lambda: expected.register(crowded, [one]), lambda: post(crowded, LATER, via=Via.POLL))
    assert registered(crowded, one.id).state is CallState.POLLED


def test_a_call_is_not_linked_to_a_result_that_is_pruned_meanwhile(
    crowded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(crowded, LATER)
    found, _ = retention.find(crowded, Records.OUTCOMES, TOMORROW, None)
    gate = before(monkeypatch, expected, "_complete")
    gate.run(
        crowded,
        lambda: expected.register(crowded, [call(ends_at=NOON)]),
        lambda: retention.remove(crowded, Records.OUTCOMES, found, TOMORROW),
    )
    assert rows(crowded, outcomes) == []
    assert all(known.outcome_id is None for known in rows(crowded, expected_calls))


# --- locks


def note_queued(database: Database, ids: Sequence[UUID]) -> None:
    expected.note_queued(database, ids, None, NOON)


def prune(database: Database, ids: Sequence[UUID]) -> None:
    found, _ = retention.find(database, Records.EXPECTED_CALLS, TOMORROW, None)
    assert {one.id for one in found} == {*ids}
    retention.remove(database, Records.EXPECTED_CALLS, found, TOMORROW)


@pytest.mark.parametrize("act", [note_queued, expected.forget, prune])
def test_calls_are_locked_in_the_order_of_their_ids(
    crowded: Database, act: Callable[[Database, Sequence[UUID]], None]
) -> None:
    """Like a group of callbacks does, though the table has them in another order."""
    low, high = sorted(call(f"r-{number}").id for number in range(2))
    for one in sorted((call(f"r-{number}") for number in range(2)), key=lambda one: one.id, reverse=True):
        expected.add(crowded, [one])
    gate = Gate()

    def receive() -> None:
        with crowded.writing() as connection:
            for key in (low, high):
                connection.execute(update(expected_calls).where(expected_calls.c.id == key).values(due_at=NOON))
                gate.stop()

    gate.run(crowded, receive, lambda: act(crowded, [low, high]))
