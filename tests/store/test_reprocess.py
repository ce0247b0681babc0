"""Reading stored deliveries again: nothing differs without a reason, and what differs is as if it had come so."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app.interpret import interpret
from app.model import Delivery, Identity, Reading, Verdict
from app.store.database import Database
from app.store.query.conditions import where
from app.store.query.question import Condition, Operator, Question, Records
from app.store.readings import save
from app.store.reprocess import Report, reprocess, reprocess_one
from app.store.schema import deliveries, outcomes

ALL = Question(records=Records.DELIVERIES)
BEGAN = datetime(2026, 2, 1, tzinfo=UTC)
NOT_KEPT = {"verdict", "later"}  # these follow the order of arrival


def delivery(number: int, body: str, **known: Any) -> Delivery:
    return Delivery(
        id=UUID(int=number + (uuid4().int >> 64 << 64)),
        integration="mine",
        received_at=BEGAN + timedelta(seconds=number),
        body=body.encode(),
        **known,
    )


def dev(number: int, call: int, attempts: int = 1, **more: Any) -> Delivery:
    told = "&".join(f"{name}={value}" for name, value in more.items())
    return delivery(number, f"result=Completed&callee_type=voice&call_id={call}&attempts={attempts}&{told}")


def everything(database: Database) -> tuple[dict[UUID, Any], dict[UUID, Any]]:
    with database.reading() as connection:
        found = [connection.execute(select(table)).mappings().all() for table in (outcomes, deliveries)]
    made, received = ({row["id"]: dict(row) for row in rows} for rows in found)
    return made, received


def again(
    database: Database, read: Callable[[Delivery], Reading] = interpret, question: Question = ALL, **options: Any
) -> Report:
    report = Report()
    for report in reprocess(database, read, question, **options):  # noqa: B007
        pass
    return report


def store(database: Database, read: Callable[[Delivery], Reading], group: Sequence[Delivery]) -> None:
    save(database, [read(one) for one in group])


def older(told: Delivery) -> Reading:
    """An older normaliser: it took every call for unanswered, knew no second calls and could not read call 3."""
    reading = interpret(told)
    if not reading.outcome:
        return reading
    if b"call_id=3" in told.body:
        return Reading(told, reason="not_understood", normaliser="0")
    outcome = reading.outcome._replace(duration_seconds=1, normaliser="0", digest="0" * 63 + "1")
    if b"call_id=2" in told.body:
        outcome = outcome._replace(id=UUID(int=7))
    return reading._replace(outcome=outcome, normaliser="0")


def test_with_the_same_normaliser_nothing_differs(database: Database) -> None:
    group = [dev(1, 1), dev(2, 1, 2), dev(3, 1), delivery(4, "junk"), delivery(5, '{"status": "completed"}')]
    store(database, interpret, [*group, delivery(6, '{"status": "completed"}')])
    before = everything(database)
    report = again(database)
    assert everything(database) == before
    assert (report.changed, report.made, report.removed, report.fields, report.verdicts) == (0, 0, 0, {}, {})
    assert report.deliveries == len(before[1])


def test_reprocessing_applies_todays_normaliser_to_all_deliveries(database: Database) -> None:
    group = [dev(1, 1), dev(2, 2), dev(3, 3), dev(4, 2, 2), dev(5, 4), delivery(6, "junk")]
    others = everything(database)
    store(database, older, group)
    report = again(database)
    store_as_today(database, group, others)
    assert report.made == 2  # calls 2 and 3
    assert report.removed == 1  # the call that the older one took call 2 for
    assert report.fields["duration_seconds"] == 2  # calls 1 and 4
    assert again(database).changed == 0


def store_as_today(database: Database, group: Sequence[Delivery], others: tuple[dict[UUID, Any], ...]) -> None:
    """What is stored is as if the group had come today."""
    after = everything(database)
    assert {key: after[0][key] for key in others[0]} == others[0]
    assert {key: after[1][key] for key in others[1]} == others[1]
    mine = [{key: row for key, row in rows.items() if row["integration"] == "mine"} for rows in after]
    with database.writing() as connection:
        connection.execute(deliveries.delete().where(deliveries.c.integration == "mine"))
        connection.execute(outcomes.delete().where(outcomes.c.integration == "mine"))
    store(database, interpret, group)
    fresh = [{key: row for key, row in rows.items() if row["integration"] == "mine"} for rows in everything(database)]
    assert mine == fresh


def test_a_dry_run_says_the_same_and_changes_nothing(database: Database) -> None:
    store(database, older, [dev(1, 1), dev(2, 2), dev(3, 3), dev(4, 2, 2)])
    before = everything(database)
    dry = again(database, dry_run=True)
    assert everything(database) == before
    real = again(database)
    assert (dry.changed, dry.made, dry.removed, dry.fields) == (real.changed, real.made, real.removed, real.fields)


def test_only_the_selected_deliveries_are_reprocessed(database: Database) -> None:
    group = [dev(1, 1), dev(2, 4), dev(3, 5)]
    store(database, older, group)
    question = Question(
        records=Records.DELIVERIES,
        conditions=[
            Condition("received_at", Operator.GTE, [BEGAN + timedelta(seconds=2)]),
            Condition("integration", Operator.EQUAL, ["mine"]),
        ],
    )
    assert again(database, question=question).changed == 2
    with database.reading() as connection:
        left = connection.execute(select(deliveries.c.id).where(deliveries.c.normaliser == "0")).scalars().all()
    assert left == [group[0].id]
    assert where(question)


def test_reprocessing_continues_behind_the_last_delivery(database: Database, monkeypatch) -> None:
    monkeypatch.setattr("app.store.reprocess.BATCH", 2)
    group = sorted((dev(number, number + 10) for number in range(5)), key=lambda one: one.id)
    store(database, older, group)
    mine = Question(records=Records.DELIVERIES, conditions=[Condition("integration", Operator.EQUAL, ["mine"])])
    first = next(reprocess(database, interpret, mine))
    assert first.last == group[1].id
    assert again(database, question=mine, after=first.last).deliveries == 3
    with database.reading() as connection:
        assert not connection.execute(select(deliveries.c.id).where(deliveries.c.normaliser == "0")).first()


@pytest.mark.parametrize(("kind", "count", "steps"), [("large", 3, [2, 1]), ("compressed", 20, [8, 8, 4])])
def test_bodies_that_are_large_or_may_inflate_are_reprocessed_few_at_a_time(
    database: Database, kind, count, steps
) -> None:
    for number in range(count):
        one = dev(number, number, note="x" * (3_000_000 if kind == "large" else 1))._replace(integration=kind)
        if kind == "compressed":
            one = one._replace(body=gzip.compress(one.body), headers=(("Content-Encoding", "gzip"),))
        store(database, interpret, [one])
    ours = Question(records=Records.DELIVERIES, conditions=[Condition("integration", Operator.EQUAL, [kind])])
    reached = [0, *(report.deliveries for report in reprocess(database, interpret, ours))]
    assert [later - earlier for earlier, later in pairwise(reached)] == steps


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_call_with_more_deliveries_than_a_batch_is_read_again_once(
    database: Database, monkeypatch, *, dry_run: bool
) -> None:
    monkeypatch.setattr("app.store.reprocess.BATCH", 2)
    group = [dev(number, 10, attempts) for number, attempts in enumerate((1, 5, 3, 2, 4, 5, 1))]
    store(database, older, [*group, dev(8, 11)])
    read = Counter[UUID]()

    def counted(told: Delivery) -> Reading:
        read[told.id] += 1
        return interpret(told)

    mine = Question(records=Records.DELIVERIES, conditions=[Condition("integration", Operator.EQUAL, ["mine"])])
    report = again(database, counted, mine, dry_run=dry_run)
    assert set(read.values()) == {1}
    assert (report.deliveries, report.outcomes, report.changed) == (8, 2, 2)
    assert again(database, question=mine).changed == (2 if dry_run else 0)


def test_one_delivery_is_read_again(database: Database) -> None:
    group = [dev(1, 3), dev(2, 3, 2)]
    store(database, older, group)
    others = everything(database)
    reprocess_one(database, interpret, group[0].id)
    made, received = everything(database)
    assert received[group[0].id]["verdict"] == Verdict.APPLIED
    assert received[group[1].id]["verdict"] == Verdict.QUARANTINED
    assert len(made) == len(others[0]) + 1
    reprocess_one(database, interpret, uuid4())


def test_a_reference_that_no_store_holds_whole_keeps_its_call(database: Database) -> None:
    told = [delivery(number, '{"status": "completed"}', reference=f"a\x00{number}") for number in (1, 2)]
    store(database, interpret, told)
    before = everything(database)
    assert again(database).made == 0
    assert everything(database) == before


def test_bodies_that_are_no_longer_nameless_are_no_duplicates(database: Database) -> None:
    body = '{"status": "completed", "call_id": "77"}'
    one, other = delivery(1, body), delivery(2, body)

    def nameless(told: Delivery) -> Reading:
        reading = interpret(told)
        assert reading.outcome
        return reading._replace(
            outcome=reading.outcome._replace(id=told.id, identity=Identity.NONE, digest="1" * 64, normaliser="0")
        )

    store(database, nameless, [one, other])
    made, _ = everything(database)
    assert made[one.id]["possible_duplicate"]
    again(database)
    store_as_today(database, [one, other], ({}, {}))


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize("fullness", ["empty"], indirect=True)
@given(
    calls=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=12),
    order=st.randoms(),
    batch=st.integers(1, 5),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_any_order_and_any_batches(database: Database, calls, order, batch) -> None:
    with database.writing() as connection:
        connection.execute(deliveries.delete())
        connection.execute(outcomes.delete())
    group = [dev(number, call, attempts) for number, (call, attempts) in enumerate(calls)]
    mixed = list(group)
    order.shuffle(mixed)
    for one in mixed:
        store(database, order.choice([older, interpret]), [one])
    last = None
    while found := next(reprocess(database, interpret, ALL, after=last), None):
        last = found.last
    made, received = everything(database)
    with database.writing() as connection:
        connection.execute(deliveries.delete())
        connection.execute(outcomes.delete())
    store(database, interpret, mixed)
    made_today, received_today = everything(database)
    drop = {"first_delivery_id"}
    assert [{k: v for k, v in made[key].items() if k not in drop} for key in sorted(made)] == [
        {k: v for k, v in made_today[key].items() if k not in drop} for key in sorted(made_today)
    ]
    for key, row in received.items():
        assert {k: v for k, v in row.items() if k not in NOT_KEPT} == {
            k: v for k, v in received_today[key].items() if k not in NOT_KEPT
        }
