"""Conditions as SQL that means the same on every engine.

Text compares by code point and with case, so `LIKE` is of no use: SQLite's knows no case, and its wildcards would
have to be escaped. A prefix is a range, which an index can serve.
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
from app.store.schema import deliveries, is_later, outcomes

_LAST = chr(0x10FFFF)
_CENTURIES = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
_clock = lru_cache(64)(stretches)  # of two centuries it takes some 40 ms
EMPTY = ("[]", "{}")


class _Position(GenericFunction[int]):
    """Where a text stands within another, from 1; 0 where it does not."""

    inherit_cache = True
    name = "position_within"


@compiles(_Position, "postgresql")
def _postgresql_position(element: _Position, compiler: Any, **kw: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **kw)})"


@compiles(_Position, "sqlite")
def _sqlite_position(element: _Position, compiler: Any, **kw: Any) -> str:
    return f"instr({compiler.process(element.clauses, **kw)})"


def where(question: Question, source: FromClause | None = None) -> list[ColumnElement[bool]]:
    """What a row must fulfil to be asked for, whichever the page; of the table, or of a source with its columns."""
    columns: Any = (question.records.table if source is None else source).c
    found = [_condition(columns[one.field], one) for one in question.conditions]
    if question.hours:
        found.append(_at_hours(columns[question.hours.field], question.hours, question.conditions))
    return found


def _at_hours(moment: Column[datetime], hours: Hours, conditions: Sequence[Condition]) -> ColumnElement[bool]:
    """By the clock as it was in the time that the conditions leave, of two centuries at most."""
    first, last = _CENTURIES
    for one in conditions:
        if one.field == hours.field and one.operator in (Operator.GT, Operator.GTE):
            first = max(first, min(one.values))
        if one.field == hours.field and one.operator in (Operator.LT, Operator.LTE):
            last = min(last, max(one.values))
    return at_hours(moment, _clock(hours.zone, first, max(first, last)), hours.of_week)


def _condition(column: Column[Any], condition: Condition) -> ColumnElement[bool]:
    return _OPERATORS[condition.operator](column, list(dict.fromkeys(condition.values)))


def _equal(column: Column[Any], values: list[Any]) -> ColumnElement[bool]:
    if column is deliveries.c.outcome_id:
        return _of_calls(values)
    return column == bound(column, values[0]) if len(values) == 1 else column.in_(values)


def _of_calls(ids: list[UUID]) -> ColumnElement[bool]:
    """Of deliveries: that they tell of the outcomes with these ids, or of calls that start under these.

    The first of each outcome is named in its row.
    """
    first = select(outcomes.c.first_delivery_id).where(outcomes.c.id.in_(ids))
    later = select(deliveries.c.id).where(deliveries.c.outcome_id.in_(ids), is_later)
    starts = select(deliveries.c.id).where(deliveries.c.start_of.in_(ids))
    return deliveries.c.id.in_(union_all(first, later, starts))


def _not(column: Column[Any], values: list[Any]) -> ColumnElement[bool]:
    other = column.not_in(values)
    return or_(other, column.is_(None)) if column.nullable else other


def _beyond_any(
    compare: Callable[[ColumnElement[Any], Any], ColumnElement[bool]], easiest: Callable[[Iterable[Any]], Any]
) -> Callable[[Column[Any], list[Any]], ColumnElement[bool]]:
    """Beyond any of the values is beyond the one that is easiest passed."""
    return lambda column, values: compare(column, bound(column, easiest(values)))


def _prefix(column: Column[Any], values: list[str]) -> ColumnElement[bool]:
    return or_(*(_begins(column, value) for value in values))


def _begins(column: Column[Any], prefix: str) -> ColumnElement[bool]:
    after = _after_all_with(prefix)
    reached = column >= bound(column, prefix)
    return and_(reached, column < bound(column, after)) if after else reached


def _after_all_with(prefix: str) -> str | None:
    """The least text behind all that begin so; None where there is none."""
    kept = prefix.rstrip(_LAST)
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are no characters


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
    Operator.GT: _beyond_any(lambda column, value: column > value, min),
    Operator.GTE: _beyond_any(lambda column, value: column >= value, min),
    Operator.LT: _beyond_any(lambda column, value: column < value, max),
    Operator.LTE: _beyond_any(lambda column, value: column <= value, max),
    Operator.PREFIX: _prefix,
    Operator.CONTAINS: _contains,
    Operator.NULL: _null,
}
