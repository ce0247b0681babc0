"""Retention: what is old enough goes with all that is kept of it, what is held or was heard of lately stays."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app.errors import NotFound
from app.identity import expected_id
from app.interpret import interpret
from app.model import AuditEntry, CallState, Delivery, ExpectedCall, HoldKind, Verdict
from app.pruning import Pruner
from app.store import audit, erasure, expected, integrations, journal
from app.store.database import Database
from app.store.legal_holds import add_hold, list_holds, remove_hold
from app.store.query.question import Question, Records
from app.store.readings import save
from app.store.reprocess import Report, reprocess
from app.store.schema import deliveries, expected_calls, outcomes

NOW = datetime(2026, 9, 1, tzinfo=UTC)
YEAR = timedelta(days=365)


def delivery(body: str, age_days: float = 0, integration: str = "mine", **known: Any) -> Delivery:
    received_at = NOW - timedelta(days=age_days)
    return Delivery(id=uuid4(), integration=integration, received_at=received_at, body=body.encode(), **known)


def dev(call: int, age_days: float = 0, attempts: int = 1, **known: Any) -> Delivery:
    return delivery(f"result=Completed&callee_type=voice&call_id={call}&attempts={attempts}", age_days, **known)


def stored(database: Database, *given: Delivery) -> list[UUID | None]:
    return [receipt.outcome_id for receipt in save(database, [interpret(one) for one in given])]


def pruned(database: Database, kept: Mapping[Records, timedelta], **options: Any) -> Counter[str]:
    removed: Counter[str] = Counter()
    for step in Pruner(database, kept, lambda: NOW).prune(lambda seconds: None, **options):
        removed += Counter({records.value: count for records, count in step.items()})
    return removed


def ids(database: Database, table: Any, integration: str = "mine") -> set[UUID]:
    with database.reading() as connection:
        return set(connection.execute(select(table.c.id).where(table.c.integration == integration)).scalars())


def journalled(database: Database, since: journal.Horizon) -> set[UUID]:
    span = journal.Span(since, journal.horizon(database))
    return {key for change in journal.page(database, span, 1000, 1000) for key in change.outcome_ids}


def held(database: Database, kind: HoldKind, subject: str) -> None:
    add_hold(database, kind, subject, "a case", NOW)


@pytest.fixture(autouse=True)
def _integrations(database: Database) -> None:
    for name in ("mine", "theirs"):
        integrations.add_integration(database, name, None, NOW)


def test_an_old_outcome_is_removed_with_its_deliveries(database: Database) -> None:
    start = delivery("call_id=1", 401, started=True)
    old, _, young = stored(database, dev(1, 400), dev(1, 399, attempts=2), dev(2, 10))
    stored(database, start, dev(1, 398, attempts=1))
    call = ExpectedCall(
        expected_id("mine", None, "1", None, None), "mine", None, "1", None, None, None, {}, CallState.WAITING, NOW
    )
    expected.register(database, [call])
    began = journal.horizon(database)
    removed = pruned(database, {Records.OUTCOMES: YEAR})
    assert ids(database, outcomes) == {young}
    assert len(ids(database, deliveries)) == 1
    assert ids(database, expected_calls) == set()
    assert old in journalled(database, began)
    assert young not in journalled(database, began)
    assert removed["expected-calls"] == 1


def test_an_old_outcome_with_a_recent_delivery_stays(database: Database) -> None:
    ended = "last_attempt_timestamp=1500000000"
    [heard, forgotten] = stored(
        database,
        delivery(f"result=Completed&call_id=1&{ended}", 10),
        delivery(f"result=Completed&call_id=2&{ended}", 400),
    )
    stored(database, delivery(f"result=Completed&call_id=3&{ended}", 400))
    [late] = stored(database, delivery(f"result=Completed&call_id=3&attempts=2&{ended}", 1))
    pruned(database, {Records.OUTCOMES: YEAR})
    assert ids(database, outcomes) == {heard, late}
    assert forgotten not in ids(database, outcomes)


def test_deliveries_go_by_themselves_and_their_outcomes_stay(database: Database) -> None:
    group = [dev(1, 400), dev(1, 10, attempts=2), delivery("junk", 400), delivery("junk too", 10)]
    stored(database, *group)
    before = ids(database, outcomes)
    pruned(database, {Records.DELIVERIES: YEAR})
    assert ids(database, outcomes) == before
    assert ids(database, deliveries) == {group[1].id, group[3].id}


def test_held_outcomes_stay_with_their_deliveries_until_the_hold_ends(database: Database) -> None:
    [call, other] = stored(database, dev(1, 400), dev(2, 400))
    stored(database, delivery("call_id=1", 401, started=True), dev(1, 399, attempts=2))
    theirs = stored(database, dev(3, 400, integration="theirs"), delivery("junk", 400, integration="theirs"))
    held(database, HoldKind.CALL, str(call))
    held(database, HoldKind.INTEGRATION, "theirs")
    everything = {Records.OUTCOMES: YEAR, Records.DELIVERIES: YEAR}
    pruned(database, everything)
    assert ids(database, outcomes) == {call}
    assert other not in ids(database, outcomes)
    assert len(ids(database, deliveries)) == 3
    assert ids(database, outcomes, "theirs") == {theirs[0]}
    assert len(ids(database, deliveries, "theirs")) == 2
    assert [hold["subject"] for hold in list_holds(database)] in ([str(call), "theirs"], ["theirs", str(call)])
    remove_hold(database, HoldKind.CALL, str(call))
    remove_hold(database, HoldKind.INTEGRATION, "theirs")
    pruned(database, everything)
    assert not ids(database, outcomes) | ids(database, deliveries) | ids(database, deliveries, "theirs")


def test_a_start_stays_as_long_as_one_of_the_outcomes_that_tell_of_its_call(database: Database) -> None:
    body = "result=Completed&callee_type=voice&call_id=1"
    start = delivery("call_id=1", 401, started=True)
    stored(database, start)
    [_, young] = stored(database, delivery(body, 400, reference="a"), delivery(body, 10, reference="b"))
    pruned(database, {Records.OUTCOMES: YEAR})
    assert ids(database, outcomes) == {young}
    assert start.id in ids(database, deliveries)


def test_a_hold_set_during_an_erasure_is_respected(database: Database) -> None:
    [call, other] = stored(database, dev(1), dev(2))
    junk = delivery("junk", integration="theirs")
    stored(database, junk)
    found = erasure.Found(outcomes={call, other}, deliveries={junk.id})
    held(database, HoldKind.CALL, str(call))
    held(database, HoldKind.INTEGRATION, "theirs")
    erasure.remove(database, found)
    assert ids(database, outcomes) == {call}
    assert ids(database, deliveries, "theirs") == {junk.id}
    assert found.held == {call, junk.id}


def test_unknown_records_cannot_be_held_or_released(database: Database) -> None:
    for kind, subject in ((HoldKind.CALL, str(uuid4())), (HoldKind.INTEGRATION, "nobody")):
        with pytest.raises(NotFound, match=f"there is no {kind} {subject}"):
            held(database, kind, subject)
        with pytest.raises(NotFound, match=f"nothing holds {kind} {subject}"):
            remove_hold(database, kind, subject)


def test_the_audit_log_is_kept_as_long_as_it_is_to_be(database: Database) -> None:
    for age in (400, 10):
        audit.write(database, AuditEntry(uuid4(), NOW - timedelta(days=age), "me", "something", []))
    assert pruned(database, {Records.AUDIT: YEAR})["audit"] == 1
    assert pruned(database, {Records.AUDIT: YEAR})["audit"] == 0


def test_calls_that_are_expected_yet_stay(database: Database) -> None:
    def call(reference: str, ends_at: datetime | None, age_days: int) -> ExpectedCall:
        key = expected_id("mine", reference, None, None, None)
        registered_at = NOW - timedelta(days=age_days)
        return ExpectedCall(key, "mine", reference, None, None, None, ends_at, {}, CallState.WAITING, registered_at)

    calls = [call("1", None, 400), call("2", NOW + YEAR, 400), call("3", None, 10)]
    expected.add(database, calls)
    pruned(database, {Records.EXPECTED_CALLS: YEAR})
    assert ids(database, expected_calls) == {calls[1].id, calls[2].id}


def test_a_dry_run_reports_what_would_be_removed_and_removes_nothing(database: Database) -> None:
    stored(database, *(dev(number, 400) for number in range(5)), dev(9, 1))
    before = ids(database, outcomes), ids(database, deliveries)
    kept = {Records.OUTCOMES: YEAR, Records.DELIVERIES: YEAR}
    told = pruned(database, kept, dry_run=True)
    assert (ids(database, outcomes), ids(database, deliveries)) == before
    assert pruned(database, kept)["outcomes"] == told["outcomes"]


def test_more_rows_than_a_transaction_are_removed_and_held_ones_stay(database: Database) -> None:
    stored(database, *(dev(number, 400 if number % 3 else 10) for number in range(450)))
    pruned(database, {Records.OUTCOMES: YEAR})
    assert len(ids(database, outcomes)) == len(ids(database, deliveries)) == 150


def test_an_outcome_some_of_whose_deliveries_are_gone_is_not_made_again_from_the_others(database: Database) -> None:
    def again() -> Report:
        report = Report()
        for report in reprocess(database, interpret, Question(records=Records.DELIVERIES)):  # noqa: B007
            pass
        return report

    stored(database, dev(1, 400, attempts=3), dev(1, 10, attempts=2), dev(2, 10), dev(3, 400), dev(3, 399))
    with database.reading() as connection:
        before = connection.execute(select(outcomes).order_by(outcomes.c.id)).all()
    pruned(database, {Records.DELIVERIES: YEAR})
    report = again()
    with database.reading() as connection:
        assert connection.execute(select(outcomes).order_by(outcomes.c.id)).all() == before
    assert (report.changed, report.removed, len(report.left)) == (0, 0, 1)


def test_a_callback_after_its_call_was_pruned_creates_the_outcome_again(database: Database) -> None:
    [old] = stored(database, dev(1, 400, attempts=3))
    pruned(database, {Records.OUTCOMES: YEAR})
    [receipt] = save(database, [interpret(dev(1, 1, attempts=1))])
    assert (receipt.verdict, receipt.outcome_id) == (Verdict.APPLIED, old)


def test_callbacks_about_calls_that_are_pruned_meanwhile_lose_nothing(database: Database) -> None:
    stop, failures = threading.Event(), []

    def keep_pruning() -> None:
        while not stop.is_set():
            try:
                pruned(database, {Records.OUTCOMES: YEAR})
            except Exception as error:  # noqa: BLE001
                failures.append(error)

    thread = threading.Thread(target=keep_pruning)
    thread.start()
    young: set[UUID] = set()
    try:
        for turn in range(60):
            age = 400 if turn % 2 else 1
            group = [dev(call, age, attempts=turn) for call in range(turn % 7, 20, 3)]
            save(database, [interpret(one) for one in group])
            young |= {one.id for one in group if age == 1}
    finally:
        stop.set()
        thread.join()
    assert failures == []
    with database.reading() as connection:
        received = connection.execute(select(deliveries).where(deliveries.c.integration == "mine")).all()
        made = connection.execute(select(outcomes).where(outcomes.c.integration == "mine")).all()
    assert young <= {row.id for row in received}
    counted = Counter(row.outcome_id for row in received)
    assert counted == Counter({row.id: row.deliveries for row in made})


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 60), st.integers(1, 4)), min_size=1, max_size=30),
    days=st.integers(1, 60),
    on_hold=st.sets(st.integers(1, 6), max_size=2),
)
def test_pruning_agrees_with_an_oracle(
    database: Database, told: list[tuple[int, int, int]], days: int, on_hold: set[int]
) -> None:
    name = f"of {uuid4()}"
    given_ = [(call, age, dev(call, age, attempts, integration=name)) for call, age, attempts in told]
    made = dict(zip((call for call, *_ in given_), stored(database, *(one for *_, one in given_)), strict=True))
    on_hold &= made.keys()
    for call in on_hold:
        held(database, HoldKind.CALL, str(made[call]))
    pruned(database, {Records.OUTCOMES: timedelta(days=days)})
    youngest = {call: min(age for other, age, _ in given_ if other == call) for call in made}
    stays = {call for call in made if call in on_hold or youngest[call] <= days}
    assert ids(database, outcomes, name) == {made[call] for call in stays}
    assert ids(database, deliveries, name) == {one.id for call, _, one in given_ if call in stays}


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_the_file_of_sqlite_shrinks(database: Database) -> None:
    def pages() -> int:
        with database.reading() as connection:
            return connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    stored(database, *(delivery(f"result=Completed&call_id={number}&x={'x' * 3000}", 400) for number in range(300)))
    before = pages()
    pruned(database, {Records.OUTCOMES: YEAR})
    assert pages() < before - 500
