"""Results that did not come are asked for, and what Plum answers is told apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select

from app.identity import expected_id
from app.interpret import interpret, interpret_all
from app.model import CallState, Delivery, ExpectedCall, Product, Reading, Receipt, Verdict
from app.outbound.reconciling import EVERY, Reconciler, call_counts
from app.plum.client import (
    CallStatus,
    InvalidRequest,
    NotPermitted,
    Redirected,
    Refused,
    Unavailable,
    UnknownCall,
    WrongCredentials,
)
from app.store import expected
from app.store.database import Database
from app.store.integrations import add_integration
from app.store.query.question import Hours
from app.store.readings import save
from app.store.schema import deliveries, expected_calls, outcomes
from tests.conftest import copied

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)
GRACE = timedelta(minutes=15)
PRODUCTS = {"insight": Product.INSIGHT, "fuse": Product.FUSE, "dev": Product.DEV, "any": None}
INSIGHT = {"status": "completed", "attempts": "1", "last_attempt_timestamp": "1772971200"}
FUSE = INSIGHT | {"phone_number": "6175551234", "queued_timestamp": "1772971100", "duration": 3}

Answer = CallStatus | Exception | None


def told(details: dict[str, Any], *, is_final: bool = True) -> CallStatus:
    body = json.dumps({"success": True, "call_details": details}).encode()
    return CallStatus(body, "application/json", details["status"], is_final)


class Plum:
    """What it answers by call id, and what it was asked."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, product: Product, call_id: str) -> CallStatus | None:
        self.asked.append(call_id)
        answer = self.answers[call_id]
        if isinstance(answer, Exception):
            raise answer
        return answer


class World:
    """A store with integrations, a Plum, and a clock."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = NOON + GRACE
        self.plum = Plum({})
        for name, product in PRODUCTS.items():
            add_integration(database, name, product, NOON)

    def reconciler(self) -> Reconciler:
        return Reconciler(self.database, interpret_all, partial(save, self.database), self.plum, lambda: self.now)

    def expect(self, integration: str = "insight", reference: str | None = None, **fields: Any) -> ExpectedCall:
        values: dict[str, Any] = {"call_id": None, "phone_number": None, "batch": None, "ends_at": NOON} | fields
        key = expected_id(integration, reference, values["call_id"], values["batch"], values["phone_number"])
        call = ExpectedCall(
            key, integration, reference, metadata={}, state=CallState.WAITING, registered_at=NOON, **values
        )
        expected.register(self.database, [call])
        return call

    def state(self, call: ExpectedCall) -> CallState:
        return expected.get_calls(self.database, [call.id])[call.id].state

    def post(self, integration: str, details: dict[str, Any], reference: str | None = None) -> Verdict:
        body = json.dumps(details).encode()
        delivery = Delivery(uuid4(), integration, NOON, body, PRODUCTS[integration], reference=reference)
        return save(self.database, [interpret(delivery)])[0].verdict

    def rows(self, table: Any, **values: Any) -> list[Any]:
        conditions = [table.c[name] == value for name, value in values.items()]
        with self.database.reading() as connection:
            return list(connection.execute(select(table).where(*conditions)).all())


@pytest.fixture
def world(engine_name: str, tmp_path: Any, request: pytest.FixtureRequest) -> Iterator[World]:
    with copied(engine_name, "migrated", tmp_path, request) as url:
        database = Database(url)
        yield World(database)
        database.close()


def test_a_missing_result_is_polled_and_stored_as_plum_reports_it(world: World) -> None:
    call = world.expect(reference="r-1", call_id="7")
    world.plum.answers["7"] = told(INSIGHT)
    assert world.reconciler().step() == {"polled": 1}
    assert world.state(call) is CallState.POLLED
    [delivery] = world.rows(deliveries)
    assert (delivery.via, delivery.verdict, delivery.body) == ("poll", "applied", told(INSIGHT).body)
    [outcome] = world.rows(outcomes)
    assert (outcome.reference, outcome.call_id, outcome.status) == ("r-1", "7", "completed")


@pytest.mark.parametrize("details", [INSIGHT, FUSE], ids=["insight", "fuse"])
def test_a_callback_after_its_poll_changes_nothing_twice(world: World, details: dict[str, Any]) -> None:
    name = "fuse" if details is FUSE else "insight"
    call = world.expect(name, "r-1", call_id="7")
    world.plum.answers["7"] = told(details)
    world.reconciler().step()
    assert world.post(name, details, "r-1") is Verdict.DUPLICATE
    assert world.state(call) is CallState.RECEIVED
    assert len(world.rows(outcomes)) == 1


@pytest.mark.parametrize("is_saved", [False, True])
def test_a_poll_that_was_killed_before_its_end_keeps_nothing_twice(world: World, *, is_saved: bool) -> None:
    call = world.expect(call_id="7", batch="spring")
    world.plum.answers["7"] = told(INSIGHT)
    killed = world.reconciler()

    def killed_save(readings: Sequence[Reading]) -> list[Receipt]:
        if is_saved:
            save(world.database, readings)
        raise KeyboardInterrupt

    killed._save = killed_save
    with pytest.raises(KeyboardInterrupt):
        killed.step()
    assert world.state(call) is (CallState.POLLED if is_saved else CallState.WAITING)
    assert world.reconciler().step() == {}  # claimed for a while
    world.now += timedelta(minutes=5)
    assert world.reconciler().step() == ({} if is_saved else {"polled": 1})
    [outcome] = world.rows(outcomes)
    assert (outcome.identity, outcome.call_id, outcome.deliveries) == ("none", "7", 1)
    assert world.state(call) is CallState.POLLED


def test_a_call_that_plum_does_not_know_any_more_after_a_killed_poll_has_no_result(world: World) -> None:
    world.expect(call_id="7", batch="spring")
    world.plum.answers["7"] = told(INSIGHT)
    killed = world.reconciler()
    killed._save = lambda readings: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        killed.step()
    world.plum.answers["7"] = UnknownCall("unknown", 404)
    assert world.reconciler().all_of(EVERY, timedelta(0)) == {"unknown_to_plum": 1}
    [known] = world.rows(expected_calls)
    assert (known.state, known.outcome_id) == (CallState.UNKNOWN_TO_PLUM, None)


def test_nothing_is_polled_within_its_window_and_grace(world: World) -> None:
    world.expect(call_id="7", ends_at=NOON + timedelta(seconds=1))
    assert world.reconciler().step() == {}
    world.now += timedelta(seconds=1)
    world.plum.answers["7"] = told(INSIGHT)
    assert world.reconciler().step() == {"polled": 1}


@pytest.mark.parametrize(
    ("answer", "result", "state"),
    [
        (told({"status": "dialing"}, is_final=False), "running", CallState.WAITING),
        (UnknownCall("no such call", 404), "unknown_to_plum", CallState.UNKNOWN_TO_PLUM),
        (NotPermitted("not yours", 403), "refused", CallState.REFUSED),
        (WrongCredentials("wrong", 401), "not_reached", CallState.MISSING),
        (Unavailable("down"), "not_reached", CallState.MISSING),
        (None, "not_asked", CallState.MISSING),
        (CallStatus(b"[" * 9, None, "completed", True), "not_understood", CallState.MISSING),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_plums_responses_are_distinguished(world: World, answer: Answer, result: str, state: CallState) -> None:
    call = world.expect(reference="r-1", call_id="7")
    world.plum.answers["7"] = answer
    assert world.reconciler().step() == {result: 1}
    assert world.state(call) is state
    assert world.reconciler().step() == {}
    assert world.post("insight", INSIGHT, "r-1") is Verdict.APPLIED
    assert world.state(call) is CallState.RECEIVED


def test_a_running_call_is_polled_again_later(world: World) -> None:
    world.expect(reference="r-1", call_id="7")
    world.plum.answers["7"] = told({"status": "queued"}, is_final=False)
    world.reconciler().step()
    world.plum.answers["7"] = told(INSIGHT)
    world.now += timedelta(minutes=5)
    assert world.reconciler().step() == {"polled": 1}


def test_once_plum_is_silent_other_calls_wait_unless_reconciled_by_hand(world: World) -> None:
    for number in range(5):
        world.expect(reference=f"r-{number}", call_id=str(number))
        world.plum.answers[str(number)] = Unavailable("down")
    assert world.reconciler().step() == {"not_reached": 5}
    assert len(world.plum.asked) == 1
    world.plum.answers |= dict.fromkeys(world.plum.answers, told(INSIGHT))
    assert world.reconciler().step() == {}
    assert world.reconciler().all_of(EVERY, GRACE) == {"polled": 5}


@pytest.mark.parametrize(("integration", "call_id"), [("dev", "7"), ("any", "7"), ("insight", None)])
def test_a_call_that_cannot_be_polled_stays_missing(world: World, integration: str, call_id: str | None) -> None:
    call = world.expect(integration, "r-1", call_id=call_id)
    assert world.reconciler().step() == {"not_asked": 1}
    world.now += timedelta(days=1)
    assert world.reconciler().step() == {}
    assert (world.state(call), world.plum.asked) == (CallState.MISSING, [])


def test_a_stored_result_is_found_before_plum_is_polled(world: World) -> None:
    call = world.expect(reference="r-1", call_id="7")
    world.post("insight", INSIGHT, "r-1")
    with world.database.writing() as connection:  # as if both had come in the same moment
        connection.execute(expected.expected_calls.update().values(outcome_id=None, state="waiting", due_at=NOON))
    assert world.reconciler().step() == {"received": 1}
    assert (world.state(call), world.plum.asked) == (CallState.RECEIVED, [])


def test_each_call_is_counted_by_its_state(world: World) -> None:
    answers: dict[str, Answer] = {"1": told(INSIGHT), "2": UnknownCall("none", 404), "3": NotPermitted("no", 403)}
    world.plum.answers = answers | {"4": None}
    for number in range(1, 6):
        late = NOON + timedelta(days=number == 5)
        world.expect(reference=f"r-{number}", call_id=str(number), batch="spring", ends_at=late)
    world.expect(reference="r-6", batch="spring")
    world.post("insight", INSIGHT, "r-6")
    world.reconciler().step()
    [counts] = call_counts(world.database, EVERY, NOON, lambda names: {})
    assert counts._asdict() == {
        "integration": "insight",
        "batch": "spring",
        "expected": 6,
        "received": 2,
        "missing": 1,
        "waiting": 1,
        "polled": 1,
        "unknown_to_plum": 1,
        "refused": 1,
    }


@pytest.mark.parametrize(("come", "missing", "waiting"), [(0, 2, 1), (1, 1, 1), (3, 0, 0), (9, 0, 0)])
def test_results_that_name_no_call_are_counted_by_their_batch(
    world: World, come: int, missing: int, waiting: int
) -> None:
    for number in range(3):
        late = NOON + timedelta(days=number == 2)
        world.expect(phone_number=f"+1617555000{number}", batch="spring", ends_at=late)
    counting: Callable[..., Any] = lambda names: {("insight", "spring"): come, ("insight", None): 5}  # noqa: E731
    [counts] = call_counts(world.database, EVERY, NOON, counting)
    assert (counts.expected, counts.received) == (3, min(come, 3))
    assert (counts.missing, counts.waiting) == (missing, waiting)


def test_a_result_that_a_call_has_is_not_counted_for_another_of_its_batch(world: World) -> None:
    world.expect(call_id="7", batch="spring")
    world.expect(phone_number="+16175550001", batch="spring")
    world.plum.answers = {"7": told(INSIGHT)}
    assert world.reconciler().step()["polled"] == 1
    [come] = world.rows(outcomes, identity="none", batch="spring")
    [counts] = call_counts(world.database, EVERY, NOON, lambda names: {("insight", "spring"): len([come])})
    assert (counts.expected, counts.received, counts.polled, counts.missing) == (2, 1, 1, 1)


def test_results_of_a_whole_batch_are_not_set_against_the_calls_of_some_hours(world: World) -> None:
    world.expect(phone_number="+16175550001", batch="spring")
    hours = Hours("registered_at", frozenset(range(168)), UTC)
    arrived: Callable[..., Any] = lambda names: {("insight", "spring"): 9}  # noqa: E731
    [counts] = call_counts(world.database, replace(EVERY, hours=hours), NOON, arrived)
    assert (counts.received, counts.missing) == (0, 1)


@pytest.mark.parametrize("silent", [True, False], ids=["plum is down", "they still run"])
def test_reconciling_ends_even_if_it_is_slow(world: World, silent: bool) -> None:
    answer: Answer = Unavailable("down") if silent else told({"status": "dialing"}, is_final=False)
    for number in range(60):
        world.expect(reference=f"r-{number}", call_id=str(number))
        world.plum.answers[str(number)] = answer
    asking = world.plum.__call__

    def slowly(product: Product, call_id: str) -> CallStatus | None:
        world.now += timedelta(minutes=20)
        return asking(product, call_id)

    reconciler = Reconciler(world.database, interpret_all, partial(save, world.database), slowly, lambda: world.now)
    assert reconciler.all_of(EVERY, timedelta(0)) == {"not_reached" if silent else "running": 60}
    assert len(world.plum.asked) == (1 if silent else 60)


@pytest.mark.parametrize("failure", [Redirected("elsewhere", 301), Refused("405", 405), Refused("no words", 404)])
def test_only_plums_own_responses_write_a_call_off(world: World, failure: Exception) -> None:
    call = world.expect(reference="r-1", call_id="7")
    world.plum.answers["7"] = failure
    assert world.reconciler().step() == {"not_reached": 1}
    world.plum.answers["7"] = told(INSIGHT)
    assert world.reconciler().all_of(EVERY, GRACE) == {"polled": 1}
    assert world.state(call) is CallState.POLLED


def test_an_odd_call_id_costs_its_own_call_alone(world: World) -> None:
    world.plum.answers = {"7.0": InvalidRequest("call_id", "an id"), "8": told(INSIGHT)}
    world.expect(reference="r-1", call_id="7.0", ends_at=NOON - timedelta(hours=1))
    world.expect(reference="r-2", call_id="8")
    assert world.reconciler().step() == {"not_asked": 1, "polled": 1}


def test_a_result_without_identity_is_found_by_plums_status(world: World) -> None:
    calls = [world.expect(call_id=str(number), batch="spring") for number in range(3)]
    world.plum.answers = {str(number): told(INSIGHT) for number in range(3)}
    body = json.dumps(INSIGHT).encode()
    for _ in range(2):  # the third was lost
        save(world.database, [interpret(Delivery(uuid4(), "insight", NOON, body, Product.INSIGHT, batch="spring"))])
    assert world.reconciler().step() == {"received": 2, "polled": 1}
    assert len(world.rows(outcomes)) == 3
    assert {row.call_id for row in world.rows(outcomes)} == {"0", "1", "2"}
    assert {world.state(call) for call in calls} == {CallState.RECEIVED, CallState.POLLED}


def test_a_batch_of_insight_is_not_reported_as_missing_call_by_call(world: World) -> None:
    call = world.expect(phone_number="+16175550001", batch="spring")
    assert world.reconciler().step() == {"not_asked": 1}
    assert world.state(call) is CallState.WAITING
    fuse = world.expect("fuse", phone_number="+16175550001", batch="spring")
    assert world.reconciler().step() == {"not_asked": 1}
    assert world.state(fuse) is CallState.MISSING
