"""Counts say what they are, and an estimate is never 0 where rows exist."""

from __future__ import annotations

import pytest

from app.errors import TooSlow
from app.store import counts
from app.store.counts import Count, Kind
from app.store.questions import Condition, Operator, Question, Records
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
