"""Pages in the order that lists have unless told otherwise begin where they begin: in the index, without sorting."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, insert

from app.interpret import interpret
from app.model import CallState, Delivery, ExpectedCall, HoldKind, Reading
from app.store import erasure, expected, journal, missing, pagination, retention
from app.store.journal import Horizon, Span
from app.store.query.question import Condition, Edge, Operator, Order, Question, Records
from app.store.readings import save
from app.store.reprocess import reprocess_one
from app.store.schema import IDENTIFYING, changes, holds

NEWEST = {Records.OUTCOMES: "ended_at", Records.DELIVERIES: "received_at"}


@pytest.fixture
def fullness() -> str:
    return "full"


def plan_of(database, ask) -> str:
    """How the engine goes about the last statement of `ask`; PostgreSQL as for more rows than there are here."""
    return plans_of(database, ask, "", without=("seqscan", "bitmapscan"))[-1]


def plans_of(database, ask, table: str, without=("seqscan",)) -> list[str]:
    """How the engine goes about each statement of `ask` that reads the table."""
    asked = statements_of(database, ask)
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    with database.reading() as connection:
        for way in () if database.is_sqlite else without:
            connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        return [
            "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"{explain} {statement}", parameters))
            for statement, parameters in asked
            if any(f"{verb} {table}" in " ".join(statement.split()) for verb in ("FROM", "UPDATE"))
        ]


def statements_of(database, ask) -> list[tuple[str, Any]]:
    asked: list[tuple[str, Any]] = []

    def note(connection, cursor, statement, parameters, context, many) -> None:
        asked.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    ask()
    event.remove(database.engine, "before_cursor_execute", note)
    return asked


def effort_of(database, ask) -> int:
    """What the engine does for the statements of `ask`, which only read: SQLite's operations, PostgreSQL's rows."""
    asked = statements_of(database, ask)
    if database.is_sqlite:
        steps: list[None] = []
        with closing(sqlite3.connect(database.engine.url.database)) as connection:
            connection.set_progress_handler(lambda: steps.append(None), 1)
            for statement, parameters in asked:
                connection.execute(statement, parameters).fetchall()
        return len(steps)
    with database.reading() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plans = [
            str(row[0])
            for statement, parameters in asked
            for row in connection.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING off) {statement}", parameters)
        ]
    return sum(int(rows) for plan in plans for rows in re.findall(r"(?:actual rows=|by Filter: )(\d+)", plan))


@pytest.mark.parametrize("kind", list(NEWEST))
@pytest.mark.parametrize("backwards", [None, False, True])
@pytest.mark.parametrize("filtered", [False, True])
def test_every_page_of_the_newest_is_read_by_the_index(database, kind, backwards, filtered) -> None:
    question = Question(
        records=kind,
        order=[Order(NEWEST[kind], descending=True)],
        conditions=[Condition("integration", Operator.EQUAL, ["others"])] if filtered else [],
    )
    if backwards is not None:
        row = pagination.page(database, question).rows[9]
        question = replace(question, edge=Edge([row[NEWEST[kind]], row["id"]], backwards))
    plan = plan_of(database, lambda: pagination.page(database, question))
    assert f"ix_{kind}_newest" in plan, plan
    assert "Sort" not in plan, plan
    assert "TEMP B-TREE" not in plan, plan
    if backwards is not None:
        assert f"{NEWEST[kind]}{'>' if backwards else '<'}" in plan.replace(" ", "").replace("(", ""), plan


@pytest.mark.parametrize("bound", [Operator.GTE, Operator.LT])
def test_since_and_until_come_from_the_index(database, bound) -> None:
    newest = [Order("ended_at", descending=True)]
    middle = pagination.page(database, Question(records=Records.OUTCOMES, order=newest)).rows[50]["ended_at"]
    since = Question(records=Records.OUTCOMES, order=newest, conditions=[Condition("ended_at", bound, [middle])])
    assert "ix_outcomes_newest" in plan_of(database, lambda: pagination.page(database, since))


def test_the_deliveries_of_a_call_are_read_by_indexes_only(database) -> None:
    of_call = Condition("outcome_id", Operator.EQUAL, [uuid4(), uuid4()])
    question = Question(
        records=Records.DELIVERIES, order=[Order("received_at", descending=True)], conditions=[of_call]
    )
    plan = plan_of(database, lambda: pagination.page(database, question))
    for index in ("ix_deliveries_start_of", "ix_deliveries_later"):
        assert index in plan, plan


@pytest.mark.parametrize("act", ["save", "reprocess"])
def test_no_callback_and_no_reprocessing_looks_through_all_deliveries(database, act) -> None:
    """PostgreSQL reads a small table whole, so that its index is seen where it may not."""
    told = [_told(attempts) for attempts in (1, 3, 2)]
    save(database, told[:2])
    ask = {
        "save": lambda: save(database, told[2:]),
        "reprocess": lambda: reprocess_one(database, interpret, told[0].delivery.id),
    }
    plans = plans_of(database, ask[act], "deliveries")
    assert any("ix_deliveries_later" in plan for plan in plans), plans
    assert not [plan for plan in plans if "SCAN deliveries" in plan or "Seq Scan on deliveries" in plan]


def test_a_callback_fetches_no_other_readings_of_its_call(database) -> None:
    told = [_told(attempts) for attempts in range(30)]
    save(database, told[:-1])
    first_and_own = 2
    assert len(fetched(database, lambda: save(database, told[-1:]), "deliveries")) <= first_and_own


@pytest.mark.parametrize("act", ["save", "reprocess"])
def test_a_result_without_identity_is_compared_with_its_integrations_equal_bodies_only(database, act) -> None:
    told = [_told(body=b'{"status": "canceled"}') for _ in range(3)]
    save(database, told[:2])
    ask = {
        "save": lambda: save(database, told[2:]),
        "reprocess": lambda: reprocess_one(database, interpret, told[0].delivery.id),
    }
    by_body = [plan for plan in plans_of(database, ask[act], "outcomes") if "same_body" in plan]
    conditions = "same_body" if database.is_sqlite else "Index Cond"
    looks = [line for plan in by_body for line in plan.splitlines() if conditions in line]
    assert looks
    assert all(re.search(r"integration.*body_sha256", look) for look in looks), looks


def _told(attempts: int = 0, body: bytes = b"") -> Reading:
    body = body or f"result=Completed&call_id=planned&attempts={attempts}".encode()
    return interpret(Delivery(id=uuid4(), integration="planned", received_at=datetime.now(UTC), body=body))


def test_missing_calls_are_counted_in_their_index_alone(database) -> None:
    """SQLite would read each of their rows to compare it with a parameter."""
    [(_, parameters)] = statements_of(database, lambda: missing.count_missing(database))
    assert not parameters
    assert "ix_expected_calls_missing" in plan_of(database, lambda: missing.count_missing(database))


@pytest.mark.parametrize("running", [1, 0])
def test_a_follower_of_the_journal_does_not_read_again_what_it_has_seen(database, running) -> None:
    end = journal.horizon(database).end
    seen = Horizon(end - running, (end - 2,) if running else ())
    look = partial(journal.page, database, Span(seen, Horizon(end)))
    before = effort_of(database, look)
    _add_changes(database, range(1, 501), datetime.now(UTC))
    assert effort_of(database, look) < before + 100


def test_removing_a_call_fetches_no_others_of_its_call_id(database) -> None:
    told = [_told(body=f"result=Completed&call_id=shared&message_reference={at}".encode()) for at in range(9)]
    keys = [receipt.outcome_id for receipt in save(database, told)]
    found = erasure.Found(outcomes={keys[0]})
    assert not fetched(database, lambda: erasure.remove(database, found), "outcomes")


def test_registering_a_call_fetches_no_results_of_its_number_in_other_batches(database) -> None:
    told = [_told(body=b"result=Completed&call_id=%d&phone_number=16175551234" % at) for at in range(9)]
    save(database, told)
    call = ExpectedCall(
        id=uuid4(),
        integration="planned",
        reference=None,
        call_id=None,
        phone_number="+16175551234",
        batch="a batch",
        ends_at=None,
        metadata={},
        state=CallState.WAITING,
        registered_at=datetime.now(UTC),
    )
    assert not fetched(database, lambda: expected.register(database, [call]), "outcomes")


def fetched(database, ask, table: str) -> list[Any]:
    """The rows that the queries of `ask` get from the table; they are executed once more afterwards."""
    asked = [(" ".join(statement.split()), parameters) for statement, parameters in statements_of(database, ask)]
    queries = [one for one in asked if one[0].startswith("SELECT") and f"FROM {table}" in one[0]]
    assert queries
    with database.reading() as connection:
        return [row for one in queries for row in connection.exec_driver_sql(*one)]


@pytest.mark.parametrize("kind", [Records.OUTCOMES, Records.DELIVERIES, Records.EXPECTED_CALLS])
def test_pruning_fetches_no_holds_of_other_calls(database, kind) -> None:
    save(database, [_told()])
    made_at = datetime.now(UTC)
    rows = [
        {"kind": HoldKind.CALL, "subject": str(uuid4()), "reason": "a case", "made_at": made_at} for _ in range(9)
    ]
    with database.writing() as connection:
        connection.execute(insert(holds), rows)
    tomorrow = made_at + timedelta(days=1)
    assert not fetched(database, lambda: retention.find(database, kind, tomorrow, None), "holds")


def test_pruning_the_journal_does_not_read_all_that_stays(database) -> None:
    look = partial(journal.prune, database, datetime.now(UTC) - journal.KEPT)
    _add_changes(database, range(-12_000, -10_000), datetime.now(UTC))
    before = effort_of(database, look)
    _add_changes(database, range(-10_000, 0), datetime.now(UTC))
    assert effort_of(database, look) < 3 * before


def _add_changes(database, numbers: Iterable[int], at: datetime) -> None:
    rows = [{"id": number, "changed_at": at, "outcome_ids": uuid4().bytes} for number in numbers]
    with database.writing() as connection:
        connection.execute(insert(changes), rows)


@pytest.mark.parametrize("field", IDENTIFYING)
def test_calls_by_an_identifying_field_are_read_by_its_index(database, field) -> None:
    question = Question(
        records=Records.OUTCOMES,
        order=[Order("ended_at", descending=True)],
        conditions=[Condition(field, Operator.EQUAL, ["a"])],
    )
    plan = plan_of(database, lambda: pagination.page(database, question))
    assert f"ix_outcomes_{field}" in plan, plan
    assert "Sort" not in plan, plan
    assert "TEMP B-TREE" not in plan, plan
