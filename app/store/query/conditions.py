"""Conditions as SQL with the same meaning on every engine.

Text is compared by code point and is case-sensitive. `LIKE` is not used, since SQLite's ignores case and wildcards
would have to be escaped. A prefix is compared as a range, which an index can serve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    Text,
    and_,
    literal,
    or_,
    select,
    true,
    type_coerce,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from app.store.query.buckets import at_hours, stretches
from app.store.query.literals import bound
from app.store.query.question import Condition, Hours, Operator, Question, is_json
from app.store.schema import INDEXED_CHARACTERS, UNBOUNDED, deliveries, is_indexed, is_later, outcomes

_LAST = chr(0x10FFFF)
_CENTURIES = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
_clock = lru_cache(64)(stretches)  # computing the stretches of two centuries takes some 40 ms
EMPTY = ("[]", "{}")
_UNBOUNDED = frozenset(outcomes.c[name] for name in UNBOUNDED)


class _Position(GenericFunction[int]):
    """The position of one text within another, from 1; 0 if it does not occur."""

    inherit_cache = True
    name = "position_within"


@compiles(_Position, "postgresql")
def _postgresql_position(element: _Position, compiler: Any, **kw: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **kw)})"


@compiles(_Position, "sqlite")
def _sqlite_position(element: _Position, compiler: Any, **kw: Any) -> str:
    return f"instr({compiler.process(element.clauses, **kw)})"


def where(question: Question, source: FromClause | None = None) -> list[ColumnElement[bool]]:
    """Return the conditions that a row of the question fulfils, regardless of the page; for its table, or for
    `source`, which has the same columns."""
    columns: Any = (question.records.table if source is None else source).c
    conditions = [_condition(columns[condition.field], condition) for condition in question.conditions]
    if question.hours:
        conditions.append(_at_hours(columns[question.hours.field], question.hours, question.conditions))
    return conditions


def _at_hours(moment: Column[datetime], hours: Hours, conditions: Sequence[Condition]) -> ColumnElement[bool]:
    """Compare local hours with the zone's offsets in the time that the conditions allow, within two centuries."""
    first, last = _CENTURIES
    for condition in conditions:
        if condition.field == hours.field and condition.operator in (Operator.GT, Operator.GTE):
            first = max(first, min(condition.values))
        if condition.field == hours.field and condition.operator in (Operator.LT, Operator.LTE):
            last = min(last, max(condition.values))
    return at_hours(moment, _clock(hours.zone, first, max(first, last)), hours.of_week)


def _condition(column: Column[Any], condition: Condition) -> ColumnElement[bool]:
    return _OPERATORS[condition.operator](column, list(dict.fromkeys(condition.values)))


def _equal(column: Column[Any], values: list[Any]) -> ColumnElement[bool]:
    if column is deliveries.c.outcome_id:
        return _belongs_to(values)
    return is_any_of(column, values)


def is_any_of(column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Match the values, by the column's index if it has them all."""
    matches = column == bound(column, values[0]) if len(values) == 1 else column.in_(values)
    if column in _UNBOUNDED and all(len(value) <= INDEXED_CHARACTERS for value in values):
        return and_(is_indexed(column), matches)
    return matches


def _belongs_to(ids: list[UUID]) -> ColumnElement[bool]:
    """Match deliveries that belong to these outcomes, or starts of the calls with these ids.

    The row of an outcome has the id of its first delivery.
    """
    first = select(outcomes.c.first_delivery_id).where(outcomes.c.id.in_(ids))
    later = select(deliveries.c.id).where(deliveries.c.outcome_id.in_(ids), is_later)
    starts = select(deliveries.c.id).where(deliveries.c.start_of.in_(ids))
    return deliveries.c.id.in_(union_all(first, later, starts))


def _not(column: Column[Any], values: list[Any]) -> ColumnElement[bool]:
    other = column.not_in(values)
    return or_(other, column.is_(None)) if column.nullable else other


def _compare_any(
    compare: Callable[[ColumnElement[Any], Any], ColumnElement[bool]], easiest: Callable[[Iterable[Any]], Any]
) -> Callable[[Column[Any], list[Any]], ColumnElement[bool]]:
    """Compare with the value that is easiest to exceed, since exceeding any of the values is enough."""
    return lambda column, values: compare(column, bound(column, easiest(values)))


def _prefix(column: Column[Any], values: list[str]) -> ColumnElement[bool]:
    return or_(*(_starts_with(column, value) for value in values))


def _starts_with(column: Column[Any], prefix: str) -> ColumnElement[bool]:
    upper = _upper_bound(prefix)
    at_least = column >= bound(column, prefix)
    return and_(at_least, column < bound(column, upper)) if upper else at_least


def _upper_bound(prefix: str) -> str | None:
    """Return the smallest text greater than all texts with this prefix; None if there is none."""
    stem = prefix.rstrip(_LAST)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are not characters


def _contains(column: Column[Any], values: list[str]) -> ColumnElement[bool]:
    return or_(*(_Position(type_coerce(column, Text), literal(value, Text)) > 0 for value in values))


def _null(column: Column[Any], values: list[bool]) -> ColumnElement[bool]:
    if len(values) == 2:
        return true()
    text = type_coerce(column, Text)
    if values[0]:
        return text.in_(EMPTY) if is_json(column) else column.is_(None)
    return text.not_in(EMPTY) if is_json(column) else column.is_not(None)


_OPERATORS: dict[Operator, Callable[[Column[Any], list[Any]], ColumnElement[bool]]] = {
    Operator.EQUAL: _equal,
    Operator.NOT: _not,
    Operator.GT: _compare_any(lambda column, value: column > value, min),
    Operator.GTE: _compare_any(lambda column, value: column >= value, min),
    Operator.LT: _compare_any(lambda column, value: column < value, max),
    Operator.LTE: _compare_any(lambda column, value: column <= value, max),
    Operator.PREFIX: _prefix,
    Operator.CONTAINS: _contains,
    Operator.NULL: _null,
}
