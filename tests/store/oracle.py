"""What a question should give, worked out from all rows the slow way."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cmp_to_key
from random import Random
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import select

from app.interpret import interpret
from app.model import Delivery
from app.store.database import Database
from app.store.query.question import Condition, Hours, Operator, Order, Question, Records
from app.store.readings import save

JSON_FIELDS = {"events", "extra", "problems", "headers", "metadata"}
TEXTS = [
    "a",
    "A",
    "ab",
    "a%",
    "a_",
    "a\\",
    "é",
    "e\u0301",
    "z",
    "🙂",
    "\ud7ff",
    "\ufffd",
    "\U0010ffff",
    "a,b",
    "''",
    '"',
]
COMPARISONS = {
    Operator.EQUAL: operator.eq,
    Operator.GT: operator.gt,
    Operator.GTE: operator.ge,
    Operator.LT: operator.lt,
    Operator.LTE: operator.le,
    Operator.PREFIX: str.startswith,
    Operator.CONTAINS: operator.contains,
}
WORDS = ["Completed", "Failed", "canceled", "rejected", "uncalled", "odd"]


def all_rows(database: Database, records: Records = Records.OUTCOMES) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(select(*records.columns)).mappings()]


def add_odd_texts(database: Database, count: int = 60) -> None:
    """Calls whose texts try what comparing texts can get wrong, many of them ended at the same moment."""
    random = Random(5)
    save(database, [interpret(_odd_delivery(random, number)) for number in range(count)])


def _odd_delivery(random: Random, number: int) -> Delivery:
    fields = {
        "result": random.choice(WORDS),
        "call_id": f"{random.choice(TEXTS)}{random.choice(['', *TEXTS])}{number}",
        "attempts": random.choice(["", "0", "1", "x"]),
        "message_reference": random.choice(["", *TEXTS]),
        "phone_number": random.choice(["", "617 555 1234", "+442079460958", "junk"]),
        random.choice(["note", "note", "callee_type"]): random.choice(TEXTS),
    }
    return Delivery(
        id=uuid5(UUID(int=7), str(number)), integration="odd", received_at=datetime(2026, 1, 5, tzinfo=UTC),
        body=json.dumps(fields).encode(), batch=random.choice([None, *TEXTS]), query=random.choice(["", "x=1"]),
    )  # fmt: skip


def holds(row: dict[str, Any], condition: Condition) -> bool:
    value, values = row[condition.field], list(condition.values)
    is_json = condition.field in JSON_FIELDS
    match condition.operator:
        case Operator.NOT:
            return value not in values
        case Operator.NULL:
            return (not value if is_json else value is None) in values
        case Operator.CONTAINS if is_json:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            return any(one in text for one in values)
    if value is None:
        return False
    compares = COMPARISONS[condition.operator]
    return any(compares(value, one) for one in values)


def chosen(rows: Iterable[dict[str, Any]], question: Question) -> list[dict[str, Any]]:
    """The rows of the whole question, in its order."""
    kept = [
        row
        for row in rows
        if all(holds(row, condition) for condition in question.conditions) and _within(row, question.hours)
    ]
    return sorted(kept, key=cmp_to_key(lambda one, other: _order(one, other, [*question.order, Order("id")])))


def _within(row: dict[str, Any], hours: Hours | None) -> bool:
    if hours is None:
        return True
    local = row[hours.field].astimezone(hours.zone)
    return local.weekday() * 24 + local.hour in hours.of_week


def _order(one: dict[str, Any], other: dict[str, Any], orders: list[Order]) -> int:
    for order in orders:
        a, b = one[order.field], other[order.field]
        if a == b:
            continue
        if a is None or b is None:
            return 1 if a is None else -1
        return (1 if a > b else -1) * (-1 if order.descending else 1)
    return 0


def ids(rows: Iterable[dict[str, Any]]) -> list[Any]:
    return [row["id"] for row in rows]
