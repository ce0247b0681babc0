"""First pages under one filter on each field: `python -m bench.filters DATABASE_URL [ROUNDS]`.

Asked in the store, each without `since` and since a week and half a year ago: values that an outcome in the middle
has and that none has. What is far from its bar is not repeated. `bench.questions` does the same on stores of its own.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from app.errors import TooSlow
from app.store import counts, pages
from app.store.database import Database
from app.store.questions import Condition, Edge, Operator, Order, Question, Records, is_json
from app.store.schema import outcomes
from app.store.types import UtcDateTime

BAR_SECONDS = 0.03
ESTIMATE_SECONDS = 0.05
FAR_SECONDS = 1.0
SINCE = {"": None, "since a week ago": 7, "since half a year ago": 182}
NEWEST = [Order("ended_at", descending=True)]
FAR_PAGE = 200

Ask = Callable[[], object]


def measure(database: Database, rounds: int) -> dict[str, float]:
    """Prints what misses its bar and how far pages are from one another; the 95th percentiles in seconds."""
    slow = _report("first page", BAR_SECONDS, dict(_first_pages(database)), rounds)
    _report("estimated count", ESTIMATE_SECONDS, dict(_estimates(database)), rounds)
    for name, condition in {"no filter": [], "one status": [_is("status", "completed")]}.items():
        first = Question(records=Records.OUTCOMES, conditions=condition, order=NEWEST)
        far = replace(first, edge=_far_edge(database, first))
        times = [percentiles(_page(database, one), rounds) for one in (first, far)]
        print(f"  page 1 and {FAR_PAGE}, {name}: median {times[0][0]:.1f} and {times[1][0]:.1f} ms")
    return slow


def _report(what: str, bar: float, asks: dict[str, Ask], rounds: int) -> dict[str, float]:
    found = {name: percentiles(ask, rounds) for name, ask in asks.items()}
    all_p95 = sorted(p95 for _, p95 in found.values())
    quick = sum(one <= bar * 1000 for one in all_p95)
    print(f"  {what} under one filter, p95 of {rounds}: {quick} of {len(found)} within {bar * 1000:.0f} ms, ", end="")
    print(f"half of them within {statistics.median(all_p95):.1f} ms; not:")
    for name, (p50, p95) in found.items():
        if p95 > bar * 1000:
            print(f"    {name}: {p50:.0f} ms, p95 {p95:.0f} ms" + (" (stopped)" if p95 > 9900 else ""))
    return {name: p95 / 1000 for name, (_, p95) in found.items()}


def percentiles(ask: Ask, rounds: int) -> tuple[float, float]:
    """Median and 95th percentile in milliseconds, after one that warms up."""
    times: list[float] = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        with suppress(TooSlow):
            ask()
        took = time.perf_counter() - began
        if number or took > FAR_SECONDS:
            times.append(took * 1000)
        if took > FAR_SECONDS:
            break
    return statistics.median(times), sorted(times)[min(len(times) - 1, int(len(times) * 0.95))]


def _first_pages(database: Database) -> Iterator[tuple[str, Ask]]:
    for name, conditions in filters(database):
        for told, days in SINCE.items():
            since = [_since(days)] if days else []
            question = Question(records=Records.OUTCOMES, conditions=[*conditions, *since], order=NEWEST)
            yield f"{name} {told}".strip(), _page(database, question)


def _estimates(database: Database) -> Iterator[tuple[str, Ask]]:
    for name, conditions in filters(database):
        question = Question(records=Records.OUTCOMES, conditions=conditions)
        yield name, lambda question=question: counts.estimate(database, question)


def _page(database: Database, question: Question) -> Ask:
    return lambda: pages.page(database, question)


def _since(days: int) -> Condition:
    return Condition("ended_at", Operator.GTE, [datetime.now(UTC) - timedelta(days=days)])


def _is(field: str, value: Any) -> Condition:
    return Condition(field, Operator.EQUAL, [value])


def filters(database: Database) -> Iterator[tuple[str, list[Condition]]]:
    """For each field and operator what some outcome has and what none has."""
    middle = _middle(database)
    for column in Records.OUTCOMES.columns:
        for operator, word, values in _asked(column, middle.get(column.name)):
            name = f"{column.name}__{operator}" if operator else column.name
            yield f"{name} ({word})", [Condition(column.name, operator, values)]


def _asked(column: sa.Column[Any], value: Any) -> Iterator[tuple[Operator, str, list[Any]]]:
    if column.name == "ended_at":
        return
    if column.nullable or is_json(column):
        yield Operator.NULL, "true", [True]
        yield Operator.NULL, "false", [False]
    if is_json(column):
        yield Operator.CONTAINS, "nowhere", ["nowhere"]
        return
    if isinstance(column.type, sa.Boolean):
        yield Operator.EQUAL, "true", [True]
        return
    if value is not None:
        yield Operator.EQUAL, "some", [value]
        yield Operator.NOT, "some", [value]
    yield from _of_kind(column, value)


def _of_kind(column: sa.Column[Any], value: Any) -> Iterator[tuple[Operator, str, list[Any]]]:
    if isinstance(column.type, sa.Integer):
        yield Operator.EQUAL, "none", [2**31 - 1]
        yield Operator.GT, "none", [1_000_000]
        yield Operator.LT, "none", [0]
    elif isinstance(column.type, UtcDateTime):
        yield Operator.GTE, "none", [datetime(2090, 1, 1, tzinfo=UTC)]
        yield Operator.LT, "none", [datetime(2001, 1, 1, tzinfo=UTC)]
        if value is not None:
            yield Operator.LT, "before some", [value]
    elif not isinstance(column.type, sa.Uuid):
        yield Operator.EQUAL, "none", ["~nowhere~"]
        yield Operator.PREFIX, "none", ["~nowhere~"]
        yield Operator.CONTAINS, "none", ["~nowhere~"]
        if value is not None:
            yield Operator.PREFIX, "some", [value[:-1]]


def _middle(database: Database) -> dict[str, Any]:
    """What each field holds in some outcome of about half a year ago that has it."""
    at = datetime.now(UTC) - timedelta(days=180)
    with database.reading() as connection:
        first = connection.execute(sa.select(sa.func.min(outcomes.c.ended_at))).scalar_one()
        near = sa.select(outcomes).where(outcomes.c.ended_at >= max(at, first)).order_by(outcomes.c.ended_at)
        rows = connection.execute(near.limit(500)).mappings().all()
    found: dict[str, Any] = {}
    for row in rows:
        found |= {name: value for name, value in row.items() if name not in found and value is not None}
    return found


def _far_edge(database: Database, question: Question) -> Edge | None:
    for _ in range(FAR_PAGE - 1):
        page = pages.page(database, question)
        if not page.more_after:
            break
        last = page.rows[-1]
        question = replace(question, edge=Edge([last[order.field] for order in question.whole_order]))
    return question.edge


if __name__ == "__main__":
    opened = Database(sys.argv[1])
    measure(opened, int(sys.argv[2]) if len(sys.argv) > 2 else 20)
    opened.close()
