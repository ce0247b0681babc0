"""The nouns of asking: a question, what it is about, its conditions and its order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Table

from app.store.schema import audit, deliveries, expected_calls, outcomes
from app.store.types import JsonText


class Operator(StrEnum):
    """How a field is compared; the word follows the field's name after two underscores, but for `=` itself."""

    EQUAL = ""
    NOT = "not"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    PREFIX = "prefix"
    CONTAINS = "contains"
    NULL = "null"


class Records(StrEnum):
    """What is asked about."""

    OUTCOMES = "outcomes"
    DELIVERIES = "deliveries"
    AUDIT = "audit"
    EXPECTED_CALLS = "expected-calls"

    @property
    def table(self) -> Table:
        return _TABLES[self]

    @property
    def singular(self) -> str:
        return _SINGULAR[self]

    @property
    def columns(self) -> list[Column[Any]]:
        """Those that records show; what is kept for the store itself is not asked about."""
        return [column for column in self.table.c if column.name not in _OWN[self]]


_TABLES = {
    Records.OUTCOMES: outcomes,
    Records.DELIVERIES: deliveries,
    Records.AUDIT: audit,
    Records.EXPECTED_CALLS: expected_calls,
}
_SINGULAR = {
    Records.OUTCOMES: "outcome",
    Records.DELIVERIES: "delivery",
    Records.AUDIT: "audit entry",
    Records.EXPECTED_CALLS: "expected call",
}
_OWN: dict[Records, set[str]] = {
    Records.OUTCOMES: {"digest", "body_sha256", "first_delivery_id"},
    Records.DELIVERIES: {"body", "digest", "declared", "cut_short", "later", "start_of"},
    Records.AUDIT: set(),
    Records.EXPECTED_CALLS: {"due_at", "polls"},
}


@dataclass(frozen=True, slots=True)
class Condition:
    """`NOT` holds where the field is none of the values, each other operator where it holds for any of them.

    A null fulfils only `NOT` and `NULL`, whose values are True for "is null" and False for "is not". Lists and
    objects are never null but empty, and know only `NULL` and `CONTAINS`, which looks into their JSON text.
    """

    field: str
    operator: Operator
    values: Sequence[Any]


class Weekday(StrEnum):
    """In the order of the ISO week."""

    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"


@dataclass(frozen=True, slots=True)
class Hours:
    """That a time of this field is within some hours of the local week: 0 is Monday's first, 167 Sunday's last."""

    field: str
    of_week: frozenset[int]
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class Order:
    """By this field; nulls come last either way."""

    field: str
    descending: bool = False


LONG = 100  # characters of a text; with longer ones a cursor's URL would become longer than servers take


@dataclass(frozen=True, slots=True)
class Digest:
    """In place of a text too long to be carried about; the row itself has it."""

    hex: str

    @classmethod
    def of(cls, text: str) -> Digest:
        return cls(hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Edge:
    """A row between two pages: its values in the question's order, its id last. Only rows beyond it are wanted."""

    values: Sequence[Any]
    backwards: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which records, in which order. Where the order leaves a tie, the id decides, ascending."""

    records: Records
    conditions: Sequence[Condition] = ()
    hours: Hours | None = None
    order: Sequence[Order] = ()
    limit: int = 100
    edge: Edge | None = None

    @property
    def whole_order(self) -> list[Order]:
        """The order with its last tie-break; what comes after the id decides nothing."""
        whole: dict[str, Order] = {}
        for order in [*self.order, Order("id")]:
            if "id" not in whole:
                whole.setdefault(order.field, order)
        return list(whole.values())


def is_json(column: Column[Any]) -> bool:
    return isinstance(column.type, JsonText)
