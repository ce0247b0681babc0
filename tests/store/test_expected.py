"""Calls that were queued and their results find each other, whichever comes first and however often either comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from app.errors import Contradicts
from app.identity import expected_id
from app.interpret import interpret
from app.model import CallState, Delivery, ExpectedCall, Outcome, Product, Via
from app.store import expected, journal, missing
from app.store.database import Database
from app.store.journal import Span
from app.store.query.question import Condition, Operator, Question, Records
from app.store.readings import save
from app.store.reprocess import reprocess
from app.store.rows import outcome_from_row
from app.store.schema import expected_calls, outcomes

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)
OURS = Question(
    records=Records.EXPECTED_CALLS, conditions=[Condition("integration", Operator.EQUAL, ["ours", "ours-dev"])]
)
EARLIER = b'{"status":"failed","attempts":"1","last_attempt_timestamp":"1772971200"}'
LATER = b'{"status":"completed","attempts":"2","last_attempt_timestamp":"1772974800"}'


def call(reference: str | None = "r-1", call_id: str | None = None, **fields: Any) -> ExpectedCall:
    values = {
        "integration": "ours",
        "phone_number": None,
        "batch": None,
        "ends_at": None,
        "metadata": {},
        "state": CallState.WAITING,
        "registered_at": NOON,
    } | fields
    key = expected_id(values["integration"], reference, call_id, values["batch"], values["phone_number"])
    return ExpectedCall(id=key, reference=reference, call_id=call_id, **values)


def post(
    database: Database, body: bytes, reference: str | None = "r-1", via: Via = Via.HTTP, **fields: Any
) -> UUID | None:
    fields = {"integration": "ours", "product": Product.INSIGHT} | fields
    delivery = Delivery(uuid4(), body=body, received_at=NOON, reference=reference, via=via, **fields)
    return save(database, [interpret(delivery)])[0].outcome_id


def post_dev(database: Database, call_id: str, phone: str = "6175551234", **fields: str) -> UUID | None:
    told = {"result": "Completed", "callee_type": "voice", "call_id": call_id, "phone_number": phone} | fields
    body = "&".join(f"{name}={value}" for name, value in told.items()).encode()
    return post(database, body, None, integration="ours-dev", product=Product.DEV)


def outcome(database: Database, key: UUID | None) -> Outcome:
    with database.reading() as connection:
        row = connection.execute(select(outcomes).where(outcomes.c.id == key)).mappings().one()
    return outcome_from_row(row)


def registered(database: Database, key: UUID) -> ExpectedCall:
    return expected.get_calls(database, [key])[key]


def forget(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(expected_calls.delete())
        connection.execute(outcomes.delete().where(outcomes.c.integration == "ours"))


def test_any_order_of_call_and_results_gives_the_same_outcome(database: Database) -> None:
    steps = {
        "call": lambda: expected.register(database, [call(phone_number="+16175551234", metadata={"who": "Ann"})]),
        "its id": lambda: expected.register(database, [call(call_id=None), call()._replace(call_id="7")]),
        "earlier": lambda: post(database, EARLIER),
        "later": lambda: post(database, LATER),
    }
    found = set()
    for order in permutations(steps):
        for name in [*order, order[0]]:
            steps[name]()
        one = outcome(database, call().id)
        assert (one.call_id, one.phone_number, one.metadata) == ("7", "+16175551234", {"who": "Ann"})
        assert one.status == "completed"
        found.add(repr(one._replace(deliveries=0)))
        known = registered(database, one.id)
        assert (known.state, known.outcome_id, known.due_at) == (CallState.RECEIVED, one.id, None)
        forget(database)
    assert len(found) == 1


def test_a_results_own_values_stay(database: Database) -> None:
    expected.register(database, [call(call_id="7", phone_number="+16175551234")])
    body = b'{"status":"completed","phone_number":"6175559999","duration":"3","queued_timestamp":"1772971200"}'
    key = post(database, body, product=Product.FUSE)
    assert outcome(database, key).phone_number == "+16175559999"
    assert outcome(database, key).call_id == "7"


def test_no_other_calls_result_is_matched(database: Database) -> None:
    expected.register(database, [call(metadata={"who": "Ann"}), call(None, "7", integration="ours-dev")])
    strangers = [post(database, LATER, "r-2"), post(database, LATER, "r-1", integration="theirs")]
    strangers.append(post_dev(database, "8"))
    assert [outcome(database, key).metadata for key in strangers] == [{}, {}, {}]
    states = {one.state for one in expected.get_calls(database, [call().id, _dev_call().id]).values()}
    assert states == {CallState.WAITING}


def _dev_call(**fields: Any) -> ExpectedCall:
    return call(None, "7", integration="ours-dev", **fields)


@pytest.mark.parametrize("is_first", [True, False])
def test_devs_results_are_known_by_call_id_unless_the_phone_is_anothers(database: Database, is_first: bool) -> None:
    expecting = _dev_call(phone_number="+16175551234", metadata={"who": "Ann"})
    if is_first:
        expected.register(database, [expecting])
    mine, other_servers = post_dev(database, "7"), post_dev(database, "7", "6175559999")
    expected.register(database, [expecting])
    assert outcome(database, mine).metadata == {"who": "Ann"}
    assert outcome(database, other_servers).metadata == {}
    assert registered(database, expecting.id).outcome_id == mine


@pytest.mark.parametrize("is_first", [True, False])
def test_devs_results_are_known_by_message_reference(database: Database, is_first: bool) -> None:
    expecting = call("m-1", integration="ours-dev", metadata={"who": "Ann"})
    if is_first:
        expected.register(database, [expecting])
    key = post_dev(database, "9", message_reference="m-1")
    expected.register(database, [expecting])
    assert outcome(database, key).metadata == {"who": "Ann"}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_number_of_a_batch_is_known_by_both(database: Database, is_first: bool) -> None:
    expecting = call(None, None, batch="spring", phone_number="+16175551234", metadata={"who": "Ann"})
    body = b'{"status":"completed","phone_number":"6175551234","duration":"3","queued_timestamp":"1772971200"}'
    if is_first:
        expected.register(database, [expecting])
    key = post(database, body, None, product=Product.FUSE, batch="spring")
    other = post(database, body, None, product=Product.FUSE, batch="summer", integration="theirs")
    expected.register(database, [expecting])
    assert outcome(database, key).metadata == {"who": "Ann"}
    assert outcome(database, other).metadata == {}


FUSE = b'{"status":"completed","phone_number":"16175551234","duration":"3","queued_timestamp":"%d"}'


@pytest.mark.parametrize("is_group", [False, True])
@pytest.mark.parametrize("ids", [("7", "8"), (None, "8")])
def test_one_result_of_a_number_that_its_batch_calls_twice_is_of_one_call(
    database: Database, ids: tuple[str | None, str], *, is_group: bool
) -> None:
    calls = [
        call(None, call_id, phone_number="+16175551234", batch="spring", metadata={"at": at})
        for at, call_id in enumerate(ids)
    ]
    expected.register(database, calls)

    def states() -> list[CallState]:
        return sorted(registered(database, one.id).state for one in calls)

    bodies = [FUSE % 1772971200, FUSE % 1773057600]
    if is_group:
        told = [Delivery(uuid4(), "ours", NOON, body, Product.FUSE, batch="spring") for body in bodies]
        keys = [receipt.outcome_id for receipt in save(database, list(map(interpret, told)))]
    else:
        keys = [post(database, bodies[0], None, product=Product.FUSE, batch="spring")]
        assert states() == [CallState.RECEIVED, CallState.WAITING]
        expected.register(database, calls)  # looks for the results again
        assert states() == [CallState.RECEIVED, CallState.WAITING]
        keys.append(post(database, bodies[1], None, product=Product.FUSE, batch="spring"))
    assert states() == [CallState.RECEIVED, CallState.RECEIVED]
    assert {registered(database, one.id).outcome_id for one in calls} == set(keys)
    made = [outcome(database, key) for key in keys]
    assert {one.call_id for one in made} == set(ids)
    assert sorted(one.metadata["at"] for one in made) == [0, 1]
    list(reprocess(database, interpret, Question(records=Records.DELIVERIES)))
    assert [outcome(database, key) for key in keys] == made


def test_the_same_call_again_changes_nothing_and_contradictions_are_refused(database: Database) -> None:
    whole = call(call_id="7", phone_number="+16175551234", batch="b", ends_at=NOON, metadata={"who": "Ann"})
    first = expected.register(database, [whole])
    assert expected.register(database, [whole._replace(registered_at=NOON + timedelta(days=1))]) == first
    for name, value in {"phone_number": "+16175559999", "call_id": "8", "metadata": {"who": "Bob"}}.items():
        with pytest.raises(Contradicts, match=f"reference r-1 is known already, with another {name}"):
            expected.register(database, [whole._replace(**{name: value})])
    assert expected.register(database, [whole]) == first


def test_a_result_that_gets_its_call_is_noted_in_the_journal(database: Database) -> None:
    key = post(database, LATER)
    seen = journal.horizon(database)
    expected.register(database, [call(metadata={"who": "Ann"})])
    told = journal.page(database, Span(seen, journal.horizon(database)))
    assert [one for change in told for one in change.outcome_ids] == [key]
    seen = journal.horizon(database)
    expected.register(database, [call(metadata={"who": "Ann"})])
    assert journal.page(database, Span(seen, journal.horizon(database))) == []


def test_reprocessing_keeps_the_values_from_the_expected_call(database: Database) -> None:
    expected.register(database, [call(call_id="7", metadata={"who": "Ann"})])
    key = post(database, LATER)
    before = outcome(database, key)
    question = Question(records=Records.DELIVERIES, conditions=[Condition("integration", Operator.EQUAL, ["ours"])])
    [*_, report] = reprocess(database, interpret, question)
    assert (report.changed, report.made, report.removed) == (0, 0, 0)
    assert outcome(database, key) == before


def test_a_polled_result_stays_polled_until_its_callback_arrives(database: Database) -> None:
    expected.register(database, [call()])
    key = post(database, LATER, via=Via.POLL)
    assert registered(database, call().id).state is CallState.POLLED
    assert post(database, LATER) == key
    assert registered(database, call().id).state is CallState.RECEIVED
    post(database, LATER, via=Via.POLL)
    assert registered(database, call().id).state is CallState.RECEIVED


def test_a_due_call_is_claimed_by_one_process_only(database: Database) -> None:
    calls = [call(f"r-{number}", ends_at=NOON + timedelta(hours=number)) for number in range(3)]
    expected.register(database, calls)
    at = NOON + timedelta(hours=1)
    claimed = missing.claim_due(database, OURS, at, at + timedelta(minutes=5), 10)
    assert {one.reference for one in claimed} == {"r-0", "r-1"}
    assert missing.claim_due(database, OURS, at, at + timedelta(minutes=5), 10) == []
    later = at + timedelta(minutes=5)
    assert len(missing.claim_due(database, OURS, later, later + timedelta(minutes=5), 10)) == 2


def test_states_are_counted_by_integration_and_batch(database: Database) -> None:
    calls = [call(f"r-{number}", batch=f"b-{number % 2}", ends_at=NOON) for number in range(6)]
    expected.register(database, calls)
    post(database, LATER, "r-0")
    missing.settle(database, calls[2], CallState.UNKNOWN_TO_PLUM, NOON, None)
    found = missing.count_states(database, OURS, NOON - timedelta(seconds=1))
    counted = {(row["batch"], row["state"]): row["count"] for row in found}
    assert counted == {
        ("b-0", "received"): 1,
        ("b-0", "unknown_to_plum"): 1,
        ("b-0", "waiting"): 1,
        ("b-1", "waiting"): 3,
    }
    late = missing.count_states(database, OURS, NOON)
    assert {row["state"] for row in late if row["batch"] == "b-1"} == {"missing"}


# --- at the same moment


def at_once(monkeypatch: pytest.MonkeyPatch, database: Database, act: Callable[[], object]) -> None:
    """A result has looked for its call, and `act` begins, before its transaction ends."""
    looked, go_on = threading.Event(), threading.Event()
    complete = expected.complete

    def slow(*arguments: Any) -> None:
        complete(*arguments)
        looked.set()
        assert go_on.wait(10)

    monkeypatch.setattr(expected, "complete", slow)
    with ThreadPoolExecutor(2) as pool:
        posting = pool.submit(post, database, LATER)
        assert looked.wait(10)
        acting = pool.submit(act)
        time.sleep(0.2)
        go_on.set()
        posting.result(10)
        acting.result(10)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_call_that_is_registered_while_its_result_is_stored_is_not_missed(
    crowded: Database, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    if is_there:
        post(crowded, EARLIER)
    one = call(metadata={"who": "Ann"})
    at_once(monkeypatch, crowded, lambda: expected.register(crowded, [one]))
    assert outcome(crowded, one.id).metadata == {"who": "Ann"}
    assert registered(crowded, one.id).state is CallState.RECEIVED


def test_a_call_id_that_becomes_known_while_the_result_is_stored_is_not_missed(
    crowded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = call(metadata={"who": "Ann"})
    expected.add(crowded, [one])
    at_once(monkeypatch, crowded, lambda: expected.note_queued(crowded, [one.id], "7", NOON))
    assert outcome(crowded, one.id).call_id == "7"


def test_a_repeated_result_completes_a_killed_registration(database: Database) -> None:
    post(database, LATER)
    expected.add(database, [call(metadata={"who": "Ann"})])  # the first of two transactions
    post(database, LATER)
    assert outcome(database, call().id).metadata == {"who": "Ann"}


def test_of_two_concurrent_registrations_one_adds_the_call(database: Database) -> None:
    assert expected.add(database, [call()]) == {call().id}
    assert expected.add(database, [call(), call("r-2")]) == {call("r-2").id}
    assert expected.add(database, []) == set()


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_two_calls_that_name_one_result_both_have_it_and_the_same_one_gives(
    database: Database, order: tuple[int, ...]
) -> None:
    by_id = _dev_call(metadata={"from": "id"})
    by_reference = call("m-1", integration="ours-dev", metadata={"from": "reference"})
    steps = [
        lambda: expected.register(database, [by_id]),
        lambda: expected.register(database, [by_reference]),
        lambda: post_dev(database, "7", message_reference="m-1"),
    ]
    for at in order:
        steps[at]()
    key = post_dev(database, "7", message_reference="m-1")
    first = min([by_id, by_reference], key=lambda one: one.id)
    assert outcome(database, key).metadata == first.metadata
    assert {registered(database, one.id).state for one in (by_id, by_reference)} == {CallState.RECEIVED}


def test_devs_own_reference_matches_beside_another_in_the_url(database: Database) -> None:
    expecting = call("m-1", integration="ours-dev", metadata={"who": "Ann"})
    expected.register(database, [expecting])
    body = b"result=Completed&call_id=9&phone_number=6175551234&message_reference=m-1"
    key = post(database, body, "url-1", integration="ours-dev", product=Product.DEV)
    assert outcome(database, key).metadata == {"who": "Ann"}


def test_a_call_whose_id_becomes_known_is_due_again(database: Database) -> None:
    expected.register(database, [call(ends_at=NOON)])
    missing.settle(database, call(), CallState.MISSING, None, None)
    expected.register(database, [call(ends_at=NOON)._replace(call_id="7")])
    assert registered(database, call().id).due_at == NOON


def test_callbacks_and_the_reconciler_do_not_block_each_other(crowded: Database) -> None:
    calls = [call(f"r-{number}", ends_at=NOON) for number in range(600)]
    expected.register(crowded, calls)
    every = Question(records=Records.EXPECTED_CALLS)

    def look() -> None:
        for _ in range(6):
            missing.make_due(crowded, every, NOON)
            missing.claim_due(crowded, every, NOON, NOON + timedelta(minutes=5), 100)

    def receive(first: int) -> None:
        for start in range(first, 600, 100):
            sent = [
                Delivery(uuid4(), "ours", NOON, LATER, Product.INSIGHT, reference=f"r-{number}")
                for number in range(start, start + 50)
            ]
            save(crowded, [interpret(one) for one in sent])

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(look), pool.submit(look), pool.submit(receive, 0), pool.submit(receive, 50)]
        for one in working:
            one.result(60)
    assert {one.state for one in expected.get_calls(crowded, [one.id for one in calls]).values()} == {
        CallState.RECEIVED
    }
