"""The parts of a query: question, records, conditions, sort order and edge."""

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
    """How a field is compared. In a parameter's name the word follows the field and two underscores; `=` has no
    word."""

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
    """The kinds of records that can be queried."""

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
        """The columns that can be queried and shown; the others are internal to the store."""
        return [column for column in self.table.c if column.name not in _INTERNAL[self]]


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
_INTERNAL: dict[Records, set[str]] = {
    Records.OUTCOMES: {"digest", "body_sha256", "first_delivery_id"},
    Records.DELIVERIES: {"body", "digest", "declared", "cut_short", "later", "start_of"},
    Records.AUDIT: set(),
    Records.EXPECTED_CALLS: {"due_at", "polls"},
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A filter. `NOT` matches if the field equals none of the values; other operators match if they hold for any
    value.

    A null matches only `NOT` and `NULL`; the values of `NULL` are True for "is null" and False for "is not". Lists
    and objects are never null but may be empty; they have only `NULL` and `CONTAINS`, which searches their JSON text.
    """

    field: str
    operator: Operator
    values: Sequence[Any]


class Weekday(StrEnum):
    """The days in the order of the ISO week."""

    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"


@dataclass(frozen=True, slots=True)
class Hours:
    """A filter for times within certain hours of the local week: 0 is Monday's first hour, 167 is Sunday's last."""

    field: str
    of_week: frozenset[int]
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class Order:
    """Sorts by one field; nulls come last in either direction."""

    field: str
    descending: bool = False


LONG = 100  # characters; with longer texts the URL of a cursor would exceed the limits of servers


@dataclass(frozen=True, slots=True)
class Digest:
    """Replaces a text that is too long for a cursor; the row itself contains the text."""

    hex: str

    @classmethod
    def of(cls, text: str) -> Digest:
        return cls(hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Edge:
    """The last row of a page: its values of the sort fields, ending with its id. Only rows beyond it are selected."""

    values: Sequence[Any]
    backwards: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A query: which records, in which order. The id, ascending, is the final tie-break."""

    records: Records
    conditions: Sequence[Condition] = ()
    hours: Hours | None = None
    order: Sequence[Order] = ()
    limit: int = 100
    edge: Edge | None = None

    @property
    def whole_order(self) -> list[Order]:
        """The sort order with its final tie-break; fields after the id have no effect and are dropped."""
        whole: dict[str, Order] = {}
        for order in [*self.order, Order("id")]:
            if "id" not in whole:
                whole.setdefault(order.field, order)
        return list(whole.values())


def is_json(column: Column[Any]) -> bool:
    return isinstance(column.type, JsonText)
