"""The order of a question and the edges of its pages as SQL: a page begins behind the last row of the one before.

So it costs the same however far it is, and rows that are written meanwhile neither repeat others nor push them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, UnaryExpression, and_, false, or_, select

from app.errors import EdgeLost
from app.store.query.conditions import where
from app.store.query.literals import bound, same
from app.store.query.question import Digest, Edge, Order, Question

# Gives the first row of a statement, None where there is none.
Look = Callable[[Select[Any]], Sequence[Any] | None]


def page_of(question: Question, columns: Sequence[ColumnElement[Any]], limit: int) -> Select[Any]:
    """So many rows beyond the question's edge, in the order walked."""
    backwards = question.edge is not None and question.edge.backwards
    statement = select(*columns).where(*where(question)).order_by(*ordering(question, backwards)).limit(limit)
    return statement.where(*_beyond(question, question.edge)) if question.edge else statement


def with_long_texts(question: Question, look: Look) -> Question:
    """The question with those of its edge's texts that are told by digests. Raises `EdgeLost`."""
    edge = question.edge
    if edge is None or not any(isinstance(value, Digest) for value in edge.values):
        return question
    table = question.records.table
    columns = [table.c[order.field] for order in question.whole_order]
    row = look(select(*columns).where(table.c.id == edge.values[-1]))
    if row is None or not all(map(_is_still, edge.values, row)):
        raise EdgeLost("cursor: the row that the page ended with is gone or has changed; begin with the first page")
    return replace(question, edge=replace(edge, values=list(row)))


def _is_still(told: Any, found: Any) -> bool:
    return bool(told == (Digest.of(found) if isinstance(told, Digest) and found is not None else found))


def ordering(question: Question, backwards: bool = False) -> list[UnaryExpression[Any]]:
    """The question's order, with its last tie-break."""
    table = question.records.table
    return [_ordering(table.c[order.field], order, backwards) for order in question.whole_order]


def _ordering(column: Column[Any], order: Order, backwards: bool) -> UnaryExpression[Any]:
    """Said about nulls only where there can be some: an index that says nothing of them serves the rest."""
    ordering = column.desc() if order.descending != backwards else column.asc()
    if not column.nullable:
        return ordering
    return ordering.nulls_first() if backwards else ordering.nulls_last()


def _beyond(question: Question, edge: Edge) -> list[ColumnElement[bool]]:
    """Rows behind the edge in the order walked: further in one field, and the same in those before it.

    The first comparison follows from the others; it is the one that an index can start from.
    """
    orders = question.whole_order
    columns = [question.records.table.c[order.field] for order in orders]
    further = [
        and_(*same(columns[:at], edge.values[:at]), _further(columns[at], order, edge.values[at], edge.backwards))
        for at, order in enumerate(orders)
    ]
    return [*_reachable(columns[0], orders[0], edge), or_(*further)]


def _reachable(column: Column[Any], order: Order, edge: Edge) -> list[ColumnElement[bool]]:
    value = edge.values[0]
    if column.nullable:
        return []
    down = order.descending != edge.backwards
    return [column <= bound(column, value) if down else column >= bound(column, value)]


def _further(column: Column[Any], order: Order, value: Any, backwards: bool) -> ColumnElement[bool]:
    """Nulls are last: forwards nothing lies behind them, backwards all that is not null."""
    if value is None:
        return column.is_not(None) if backwards else false()
    down = order.descending != backwards
    behind = column < bound(column, value) if down else column > bound(column, value)
    return or_(behind, column.is_(None)) if column.nullable and not backwards else behind
