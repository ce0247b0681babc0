"""Counts say what they are, and an estimate is never 0 where rows exist."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from app.errors import TooSlow
from app.interpret import interpret
from app.model import Delivery
from app.store import schema_version
from app.store.answers import counts
from app.store.answers.counts import Count, Kind
from app.store.query.questions import Condition, Operator, Question, Records
from app.store.database import Database
from app.store.readings import save
from tests.store.oracle import add_odd_texts, all_rows, chosen

QUESTIONS = [
    [],
    [Condition("status", Operator.EQUAL, ["completed"])],
    [Condition("status", Operator.NOT, ["completed"]), Condition("batch", Operator.NULL, [True])],
    [Condition("call_id", Operator.PREFIX, ["a"])],
    [Condition("extra", Operator.NULL, [False])],
    [Condition("attempts", Operator.GT, [1])],
]


@pytest.fixture
def asked(database) -> list[tuple[Question, int]]:
    add_odd_texts(database)
    questions = [Question(records=Records.OUTCOMES, conditions=conditions) for conditions in QUESTIONS]
    return [(question, len(chosen(all_rows(database), question))) for question in questions]


def test_what_is_counted_in_a_moment_is_exact(database, asked, monkeypatch) -> None:
    monkeypatch.setattr(counts, "MOMENT_SECONDS", 9)
    for question, wanted in asked:
        assert counts.estimate(database, question) == counts.count(database, question) == Count(wanted, Kind.EXACT)


def test_beyond_that_it_is_an_estimate_and_never_0_where_rows_exist(database, asked, monkeypatch) -> None:
    monkeypatch.setattr(counts, "EXACT_UP_TO", 0)
    monkeypatch.setattr(counts, "MOMENT_SECONDS", 9)
    with database.writing() as connection:
        connection.exec_driver_sql("ANALYZE")
    for question, wanted in asked:
        value, kind = counts.estimate(database, question)
        assert kind is (Kind.ESTIMATED if wanted else Kind.EXACT)
        assert wanted / 3 - 10 <= value <= wanted * 3 + 10
        assert value > 0 or not wanted


def test_a_count_that_takes_too_long_becomes_an_estimate(database, asked, monkeypatch) -> None:
    reading = database.reading

    def hurried(seconds=None, **how):
        if seconds is None:
            return reading(**how)
        raise TooSlow

    monkeypatch.setattr(database, "reading", hurried)
    for question, wanted in asked:
        value, kind = counts.estimate(database, question)
        assert kind is Kind.ESTIMATED
        assert value > 0 or not wanted


def test_an_empty_store_has_nothing_to_count(database, monkeypatch) -> None:
    monkeypatch.setattr(counts, "MOMENT_SECONDS", 9)
    nobody = Question(records=Records.OUTCOMES, conditions=[Condition("integration", Operator.EQUAL, ["nobody"])])
    assert counts.estimate(database, nobody) == Count(0, Kind.EXACT)


def test_sqlite_estimates_what_lies_together(tmp_path) -> None:
    """Campaigns come one after the other: neighbours are alike, so that few places tell little."""
    database = Database(f"sqlite:///{tmp_path / 'outcomes.db'}")
    schema_version.migrate(database)
    body = "result=Completed&call_id={}&message_reference=" + "{}"
    made = [(number, "monday" if 3000 <= number < 3300 else "other") for number in range(6000)]
    for start in range(0, 6000, 500):
        sent = [
            Delivery(id=uuid4(), integration="i", received_at=datetime.now(UTC), body=body.format(*one).encode())
            for one in made[start : start + 500]
        ]
        save(database, [interpret(one) for one in sent])
    monday = Question(
        records=Records.OUTCOMES, conditions=[Condition("message_reference", Operator.EQUAL, ["monday"])]
    )
    guess = counts._guess(database, monday)
    assert 150 <= guess <= 600
    assert counts._guess(database, monday) == guess
    database.close()
