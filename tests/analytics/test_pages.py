"""Order and pages against a brute-force oracle, forward and back, from the store and by ids from its copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from random import Random
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from app.errors import CopyUnavailable, EdgeLost, NotFound
from app.interpret import interpret
from app.model import Delivery
from app.query_router import QueryRouter, is_answered_by_store
from app.store import journal, pagination, records
from app.store.journal import horizon
from app.store.pagination import Page
from app.store.query.question import Condition, Digest, Edge, Hours, Operator, Order, Question, Records
from app.store.readings import save
from app.store.schema import outcomes
from app.store.types import to_json
from tests.analytics.conftest import on_a_full_store
from tests.store.oracle import JSON_FIELDS, add_odd_texts, all_rows, chosen, ids

Ask = Callable[..., Page]

SORTABLE = [column.name for column in Records.OUTCOMES.columns if column.name not in JSON_FIELDS]


@pytest.fixture(params=["store", "copy"])
def ask(request, database, router) -> Ask:
    """A page from the store alone, or by the ids that its copy finds."""
    if request.param == "store":
        return lambda question, fields=None: pagination.page(database, question, fields)
    return lambda question, fields=None: pagination.page_of_ids(
        database, question, find(database, router, question), fields
    )


def find(database, router: QueryRouter, question: Question):
    return router._copy.ask("find", (question,), horizon(database))


def walk(ask: Ask, question: Question, *, backwards: bool = False) -> Iterator[Page]:
    """The pages from here to the end of their direction, which must be as full as they can be."""
    while True:
        page = ask(question)
        yield page
        if not (page.more_before if backwards else page.more_after):
            return
        assert len(page.rows) == question.limit or weight(page.rows) > pagination.PAGE_BYTES
        question = replace(question, edge=Edge(page.first if backwards else page.last, backwards))


def weight(rows: list[dict]) -> int:
    texts = [to_json(value) if isinstance(value, list | dict) else value for row in rows for value in row.values()]
    return sum(len(text.encode()) for text in texts if isinstance(text, str))


def edge_of(question: Question, row: dict, backwards: bool = False) -> Edge:
    return Edge([row[order.field] for order in question.whole_order], backwards)


def some_order(random: Random) -> list[Order]:
    return [Order(field, random.random() < 0.5) for field in random.sample(SORTABLE, random.randint(0, 3))]


@pytest.mark.parametrize("seed", range(8))
def test_pages_hold_each_row_once_and_in_order_forward_and_back(database, ask, seed) -> None:
    add_odd_texts(database)
    rows, random = all_rows(database), Random(seed)
    conditions = [Condition("status", Operator.NOT, ["completed"])] if seed % 2 else []
    question = Question(
        records=Records.OUTCOMES, conditions=conditions, order=some_order(random), limit=random.choice([97, 400])
    )
    wanted = chosen(rows, question)
    found = list(walk(ask, question))
    assert ids(row for page in found for row in page.rows) == ids(wanted)
    assert [page.more_before for page in found] == [False, *[True] * (len(found) - 1)]
    if len(found) > 1:
        last = replace(question, edge=edge_of(question, found[-1].rows[0], backwards=True))
        back = list(walk(ask, last, backwards=True))[::-1]
        assert ids(row for page in back for row in page.rows) == ids(row for page in found[:-1] for row in page.rows)
        assert back[-1].more_after


@on_a_full_store
def test_a_page_of_large_rows_ends_early_and_none_is_lost(database, ask, monkeypatch) -> None:
    monkeypatch.setattr(pagination, "PAGE_BYTES", 20_000)
    save(database, [interpret(late(number, "é" * size)) for number, size in enumerate([10, 3000, 15_000, 70] * 10)])
    fetch, fetched = pagination._fetch_rows, []
    monkeypatch.setattr(pagination, "_fetch_rows", lambda *asked: fetched.append(fetch(*asked)) or fetched[-1])
    orders = [[Order("ended_at", True)], [Order("batch"), Order("call_id", True)]]
    filters = [[], [Condition("status", Operator.EQUAL, ["completed"])]]
    rows = all_rows(database)
    for order, conditions, limit in product(orders, filters, [4, 50]):
        fetched.clear()
        ours = [*conditions, Condition("integration", Operator.EQUAL, ["late"])]
        question = Question(records=Records.OUTCOMES, conditions=ours, order=order, limit=limit)
        wanted = shown(chosen(rows, question))
        found = list(walk(ask, question))
        assert max(map(weight, fetched)) < 2.6 * pagination.PAGE_BYTES  # with a last row of 30,000 bytes
        assert shown(row for page in found for row in page.rows) == wanted
        assert all(weight(page.rows[:-1]) <= pagination.PAGE_BYTES for page in found)
        last = replace(question, edge=edge_of(question, found[-1].rows[0], backwards=True))
        back = list(walk(ask, last, backwards=True))
        assert shown(row for page in back[::-1] for row in page.rows) == wanted[: -len(found[-1].rows)]
        assert all(weight(page.rows[1:]) <= pagination.PAGE_BYTES for page in back)


def shown(rows: Iterable[dict]) -> list[dict]:
    return [{column.name: row[column.name] for column in Records.OUTCOMES.columns} for row in rows]


@on_a_full_store
def test_every_field_orders_with_nulls_last_both_ways(database, ask) -> None:
    add_odd_texts(database)
    rows = all_rows(database)
    for order in [Order(field, descending) for field in SORTABLE for descending in (False, True)]:
        question = Question(records=Records.OUTCOMES, order=[order], limit=5)
        wanted = chosen(rows, question)
        first_null = next((at for at, row in enumerate(wanted) if row[order.field] is None), 2)
        for at in {0, max(first_null - 1, 0), first_null, len(wanted) - 1}:
            for backwards in (False, True):
                beside = ask(replace(question, edge=edge_of(question, wanted[at], backwards)))
                expected = wanted[max(at - 5, 0) : at] if backwards else wanted[at + 1 : at + 6]
                assert ids(beside.rows) == ids(expected), (order, at, backwards)


@on_a_full_store
@pytest.mark.parametrize("order", [[Order("ended_at", True)], [Order("batch"), Order("attempts", True)]])
@pytest.mark.parametrize("backwards", [False, True])
def test_rows_written_meanwhile_neither_repeat_nor_push_out_others(database, ask, order, backwards) -> None:
    add_odd_texts(database)
    question = Question(records=Records.OUTCOMES, order=order, limit=7)
    before = chosen(all_rows(database), question)
    edge = edge_of(question, before[-1], True) if backwards else None
    seen = []
    for number, page in enumerate(walk(ask, replace(question, edge=edge), backwards=backwards)):
        seen = ids(page.rows) + seen if backwards else seen + ids(page.rows)
        save(database, [interpret(late(number))])
        if number == 20:
            break
    old = set(ids(before))
    seen = [one for one in seen if one in old]
    wanted = ids(before[:-1]) if backwards else ids(before)
    assert seen == (wanted[-len(seen) :] if backwards else wanted[: len(seen)])


def late(number: int, odd: str = "") -> Delivery:
    """Of a call that ended among the others."""
    random = Random(number)
    body = f"result=Completed&call_id=late{number}&attempts={random.randint(0, 2)}&odd={odd}".encode()
    moment = datetime(2026, 1, random.randint(1, 9), tzinfo=UTC)
    return Delivery(id=uuid4(), integration="late", received_at=moment, body=body, batch=random.choice(["a", "z"]))


def test_a_digest_in_place_of_a_text_marks_the_same_edge(database, ask) -> None:
    add_odd_texts(database)
    question = Question(records=Records.OUTCOMES, order=[Order("batch"), Order("call_id", True)], limit=5)
    for page in walk(ask, question):
        whole = edge_of(question, page.rows[-1])
        told = [Digest.of(value) if isinstance(value, str) else value for value in whole.values]
        pages_of = [ask(replace(question, edge=replace(whole, values=one))) for one in (whole.values, told)]
        assert pages_of[0] == pages_of[1]


@pytest.mark.parametrize("now", [{"batch": "other"}, {"batch": None}, {"attempts": 77}, {"id": UUID(int=1)}])
def test_an_edge_whose_row_is_gone_or_has_changed_is_said_to_be_lost(database, ask, now) -> None:
    save(database, [interpret(late(number)) for number in range(3)])
    question = Question(records=Records.OUTCOMES, order=[Order("batch"), Order("attempts")], limit=1)
    edge = edge_of(question, ask(question).rows[0])
    short = replace(edge, values=[Digest.of(edge.values[0]), *edge.values[1:]])
    with database.writing() as connection:
        connection.execute(update(outcomes).where(outcomes.c.id == edge.values[-1]).values(**now))
        journal.note(connection, {edge.values[-1], now.get("id", edge.values[-1])})
    with pytest.raises(EdgeLost, match="begin with the first page"):
        ask(replace(question, edge=short))


def test_a_page_of_some_fields_also_has_what_its_edges_need(database, ask) -> None:
    add_odd_texts(database)
    question = Question(records=Records.OUTCOMES, order=[Order("batch")])
    assert set(ask(question, ["status"]).rows[0]) == {"status", "batch", "id"}


def test_all_deliveries_are_exported_in_order_during_writes(database) -> None:
    add_odd_texts(database)
    question = Question(records=Records.DELIVERIES, order=[Order("batch", True)])
    wanted = ids(chosen(all_rows(database, Records.DELIVERIES), question))
    found = []
    for number, row in enumerate(records.each(database, question, ["id"], 60)):
        found.append(row["id"])
        if number % 40 == 0:
            save(database, [interpret(late(1000 + number))])
    assert found == wanted


NEWEST = [Order("ended_at", True)]
SINCE = Condition("ended_at", Operator.GTE, [datetime(2026, 1, 1, tzinfo=UTC)])
NUMBER = Condition("phone_number", Operator.EQUAL, ["+1"])
ASKED = {
    "the newest": ([], NEWEST, True),
    "between two times": ([SINCE], [Order("ended_at")], True),
    "one number": ([NUMBER, SINCE], NEWEST, True),
    "some ids": ([Condition("id", Operator.EQUAL, [UUID(int=1)] * 20)], [Order("batch")], True),
    "some numbers": ([Condition("phone_number", Operator.EQUAL, ["+1", "+2"])], NEWEST, False),
    "one number in another order": ([NUMBER], [Order("batch")], False),
    "one number and more": ([NUMBER, Condition("batch", Operator.NULL, [True])], NEWEST, False),
    "no number": ([Condition("phone_number", Operator.NOT, ["+1"])], NEWEST, False),
    "a word": ([Condition("status", Operator.EQUAL, ["failed"])], NEWEST, False),
    "another order": ([], [Order("batch")], False),
}


def test_hours_of_the_week_are_found_by_the_copy() -> None:
    hours = Hours("ended_at", frozenset([9]), UTC)
    for conditions, by_store in (([SINCE], False), ([NUMBER], True)):
        question = Question(records=Records.OUTCOMES, conditions=conditions, order=NEWEST, hours=hours)
        assert is_answered_by_store(question) == by_store


@pytest.mark.parametrize("conditions, order, by_store", ASKED.values(), ids=ASKED)
def test_the_store_answers_what_its_indexes_serve(conditions, order, by_store) -> None:
    assert is_answered_by_store(Question(records=Records.OUTCOMES, conditions=conditions, order=order)) == by_store
    assert is_answered_by_store(Question(records=Records.DELIVERIES, conditions=[], order=order))


def test_while_the_copy_is_away_the_store_serves_look_ups(database) -> None:
    add_odd_texts(database)

    class Away:
        def ask(self, *_: object) -> None:
            raise CopyUnavailable("being filled")

    router = QueryRouter(database, database, Away())
    looked_up = Question(records=Records.OUTCOMES, conditions=ASKED["one number and more"][0], order=[Order("batch")])
    number = next(row["phone_number"] for row in all_rows(database) if row["phone_number"])
    known = replace(looked_up, conditions=[replace(NUMBER, values=[number, "+1"])])
    assert ids(router.page(known).rows) == ids(chosen(all_rows(database), known))[:100]
    with pytest.raises(CopyUnavailable):
        router.page(replace(known, conditions=[]))


def test_an_unknown_page_is_not_found(database) -> None:
    with pytest.raises(NotFound, match="there is no delivery"):
        records.get_record(database, Records.DELIVERIES, uuid4())
