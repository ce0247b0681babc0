"""First pages under one filter on each field: `python -m bench.filters DATABASE_URL [ROUNDS] [SMALL_DATABASE_URL]`.

Asked in the store, each without `since` and since a week and half a year ago: values that an outcome in the middle
has and that none has. What is far from its bar is not repeated. `bench.questions` does the same on stores of its own.
With a second store, of 10,000 outcomes say, each is held against the same filter there, in the same run.
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
from app.store.answers import counts, pages
from app.store.database import Database
from app.store.query.questions import Condition, Edge, Operator, Order, Question, Records, is_json
from app.store.schema import outcomes
from app.store.types import UtcDateTime

BAR_SECONDS = 0.03
ESTIMATE_SECONDS = 0.05
FAR_SECONDS = 1.0
TWICE = 2
SINCE = {"since a week ago": 7, "since half a year ago": 182, "whenever": None}
NEWEST = [Order("ended_at", descending=True)]
FAR_PAGE = 200

Ask = Callable[[], object]


def measure(database: Database, rounds: int, small: Database | None = None) -> None:
    """Prints what misses its bar and how far pages are from one another."""
    for told, days in SINCE.items():
        beside = dict(_first_pages(small, days)) if small else {}
        _report(f"first page {told}", BAR_SECONDS, dict(_first_pages(database, days)), rounds, beside)
    _report("estimated count", ESTIMATE_SECONDS, dict(_estimates(database)), rounds)
    for name, condition in {"no filter": [], "one status": [_is("status", "completed")]}.items():
        first = Question(records=Records.OUTCOMES, conditions=condition, order=NEWEST)
        far = replace(first, edge=_far_edge(database, first))
        times = [percentiles(_page(database, one), rounds) for one in (first, far)]
        print(f"  page 1 and {FAR_PAGE}, {name}: median {times[0][0]:.1f} and {times[1][0]:.1f} ms")


def _report(what: str, bar: float, asks: dict[str, Ask], rounds: int, small: dict[str, Ask] | None = None) -> None:
    found, beside = {}, {}
    for name, ask in asks.items():
        found[name] = percentiles(ask, rounds)
        if small and name in small:
            beside[name] = percentiles(small[name], rounds)
    quick = [sum(one[at] <= bar * 1000 for one in found.values()) for at in (0, 1)]
    print(
        f"  {what} under one filter, {len(found)} of them: within {bar * 1000:.0f} ms by the median {quick[0]},",
        end="",
    )
    print(f" by the p95 of {rounds} {quick[1]}; {_of_all(found)}; not:")
    for name, (p50, p95) in found.items():
        if p95 > bar * 1000:
            print(f"    {name}: {p50:.0f} ms, p95 {p95:.0f} ms" + (" (stopped)" if p95 > 9900 else ""))
    if beside:
        near = sum(found[name][0] <= TWICE * there for name, (there, _) in beside.items())
        print(
            f"    at most {TWICE} times as long as in the small store, by the median: {near} of {len(beside)};",
            end="",
        )
        print(f" there {_of_all(beside)}")


def _of_all(found: dict[str, tuple[float, float]]) -> str:
    medians = sorted(p50 for p50, _ in found.values())
    most = medians[int(len(medians) * 0.95)]
    return f"half take at most {statistics.median(medians):.1f} ms, 95% of them {most:.1f} ms"


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


def _first_pages(database: Database, days: int | None) -> Iterator[tuple[str, Ask]]:
    since = [_since(days)] if days else []
    for name, conditions in filters(database):
        question = Question(records=Records.OUTCOMES, conditions=[*conditions, *since], order=NEWEST)
        yield name, _page(database, question)


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
    stores = [Database(url) for url in (sys.argv[1], *sys.argv[3:4])]
    measure(stores[0], int(sys.argv[2]) if len(sys.argv) > 2 else 20, *stores[1:])
