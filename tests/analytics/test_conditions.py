"""Every operator on every field, in the store and in its copy, against a brute-force oracle."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from app.query_router import Kind, QueryRouter
from app.store import pagination
from app.store.pagination import Page
from app.store.query.question import Condition, Operator, Order, Question, Records
from app.web.parameters import MAX_VALUES, MAX_WHOLE
from tests.analytics.conftest import on_a_full_store
from tests.store.oracle import JSON_FIELDS, TEXTS, add_odd_texts, all_rows, chosen, holds, ids

COMPARING = [Operator.EQUAL, Operator.NOT, Operator.GT, Operator.GTE, Operator.LT, Operator.LTE]
TEXTUAL = [Operator.PREFIX, Operator.CONTAINS]


def counted(router: QueryRouter, question: Question) -> int | None:
    beyond = Page([], more_before=False, more_after=True)
    value, kind = router.count(beyond, question, Kind.ESTIMATED)
    assert kind is Kind.EXACT
    return value


def operators(field: str, values: list[Any]) -> list[Operator]:
    if field in JSON_FIELDS or not values:
        return [Operator.NULL, Operator.CONTAINS] if values else [Operator.NULL]
    return [*COMPARING, Operator.NULL, *(TEXTUAL if any(isinstance(value, str) for value in values) else [])]


def pieces(random: Random, values: list[Any]) -> list[str]:
    """Texts that some values hold, and some that perhaps none does."""
    texts = [value if isinstance(value, str) else str(value) for value in random.choices(values, k=3)]
    cut = [text[start : start + 4] for text in texts for start in (0, random.randint(0, 3))]
    return random.sample([*cut, *random.sample(TEXTS, 2)], random.randint(1, 3))


@pytest.mark.parametrize("records", list(Records))
def test_every_operator_on_every_field_agrees_with_the_oracle(
    database, router, records, engine_name, fullness
) -> None:
    add_odd_texts(database)
    rows, random = all_rows(database, records), Random(f"{engine_name} {fullness}")
    by_id = [Order("id")]
    for column in records.columns:
        values = [row[column.name] for row in rows if row[column.name] is not None]
        for operator in operators(column.name, values):
            if operator is Operator.NULL:
                asked: list[Any] = random.choice([[True], [False], [True, False]])
            elif operator in TEXTUAL:
                asked = pieces(random, values)
            else:
                asked = random.choices(values, k=random.randint(1, 3))
            condition = Condition(column.name, operator, asked)
            question = Question(records=records, conditions=[condition], order=by_id, limit=10_000)
            wanted = [row for row in rows if holds(row, condition)]
            for page in (pagination.page(database, question, ["id"]), router.page(question, ["id"])):
                assert sorted(ids(wanted)) == ids(page.rows), condition
            assert pagination.count(database, question) == counted(router, question) == len(wanted)


def test_a_prefix_ends_where_the_next_character_would_begin(database, router) -> None:
    add_odd_texts(database)
    rows = all_rows(database)
    for prefix in ["", *TEXTS, "a\U0010ffff", "\U0010ffff\U0010ffff"]:
        question = Question(records=Records.OUTCOMES, conditions=[Condition("call_id", Operator.PREFIX, [prefix])])
        assert pagination.count(database, question) == counted(router, question) == len(chosen(rows, question)), (
            prefix
        )


def test_conditions_hold_together(database, router) -> None:
    add_odd_texts(database)
    rows, random = all_rows(database), Random(2)
    for _ in range(30):
        fields = random.sample(["status", "batch", "attempts", "queued_at", "answered_by", "possible_duplicate"], 3)
        conditions = [
            Condition(field, random.choice(COMPARING), random.choices(values, k=2))
            for field in fields
            if (values := [row[field] for row in rows if row[field] is not None])
        ]
        question = Question(records=Records.OUTCOMES, conditions=conditions)
        assert pagination.count(database, question) == counted(router, question) == len(chosen(rows, question)), (
            conditions
        )


@on_a_full_store
@pytest.mark.parametrize("operator", [Operator.EQUAL, Operator.NOT, *TEXTUAL])
def test_as_many_values_as_may_be_asked_for_are_answered(database, router, operator) -> None:
    rows = all_rows(database)
    values = [f"call-{number}" for number in range(MAX_WHOLE if operator in TEXTUAL else MAX_VALUES)]
    values[-1:] = [row["call_id"] for row in rows if row["call_id"]][:1]
    question = Question(
        records=Records.OUTCOMES,
        conditions=[Condition("call_id", operator, values)],
        order=[Order("ended_at", descending=True)],
        limit=len(rows) + 1,
    )
    wanted = ids(chosen(rows, question))
    assert ids(pagination.page(database, question).rows) == ids(router.page(question).rows) == wanted
    assert pagination.count(database, question) == counted(router, question) == len(chosen(rows, question))
