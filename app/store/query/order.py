"""The sort order of a question and the edges of its pages as SQL: a page begins after the last row of the previous
page.

Each page therefore costs the same, and rows written meanwhile cause neither repeated nor missing rows.
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

# Executes a statement and returns its first row, or None.
Look = Callable[[Select[Any]], Sequence[Any] | None]


def page_of(question: Question, columns: Sequence[ColumnElement[Any]], limit: int) -> Select[Any]:
    """Select `limit` rows beyond the question's edge, in the direction of paging."""
    backwards = question.edge is not None and question.edge.backwards
    statement = select(*columns).where(*where(question)).order_by(*ordering(question, backwards)).limit(limit)
    return statement.where(*_beyond(question, question.edge)) if question.edge else statement


def with_long_texts(question: Question, look: Look) -> Question:
    """Replace the digests in the question's edge by the texts of its row. Raises `EdgeLost`."""
    edge = question.edge
    if edge is None or not any(isinstance(value, Digest) for value in edge.values):
        return question
    table = question.records.table
    columns = [table.c[order.field] for order in question.whole_order]
    row = look(select(*columns).where(table.c.id == edge.values[-1]))
    if row is None or not all(map(_is_unchanged, edge.values, row)):
        raise EdgeLost("cursor: the row that the page ended with is gone or has changed; begin with the first page")
    return replace(question, edge=replace(edge, values=list(row)))


def _is_unchanged(edge_value: Any, value: Any) -> bool:
    return bool(edge_value == (Digest.of(value) if isinstance(edge_value, Digest) and value is not None else value))


def ordering(question: Question, backwards: bool = False) -> list[UnaryExpression[Any]]:
    """Return the question's sort order with its final tie-break."""
    table = question.records.table
    return [_ordering(table.c[order.field], order, backwards) for order in question.whole_order]


def _ordering(column: Column[Any], order: Order, backwards: bool) -> UnaryExpression[Any]:
    """Return the sort expression of a column. It places nulls only if the column is nullable, since indexes without a
    NULLS clause serve the others."""
    ordering = column.desc() if order.descending != backwards else column.asc()
    if not column.nullable:
        return ordering
    return ordering.nulls_first() if backwards else ordering.nulls_last()


def _beyond(question: Question, edge: Edge) -> list[ColumnElement[bool]]:
    """Select rows after the edge in the direction of paging: greater in one sort field, and equal in all fields
    before it.

    The first condition follows from the others; an index can start from it.
    """
    orders = question.whole_order
    columns = [question.records.table.c[order.field] for order in orders]
    further = [
        and_(*same(columns[:at], edge.values[:at]), _further(columns[at], order, edge.values[at], edge.backwards))
        for at, order in enumerate(orders)
    ]
    return [*_index_range(columns[0], orders[0], edge), or_(*further)]


def _index_range(column: Column[Any], order: Order, edge: Edge) -> list[ColumnElement[bool]]:
    value = edge.values[0]
    if column.nullable:
        return []
    down = order.descending != edge.backwards
    return [column <= bound(column, value) if down else column >= bound(column, value)]


def _further(column: Column[Any], order: Order, value: Any, backwards: bool) -> ColumnElement[bool]:
    """Compare one column with the edge. Nulls are last: forwards no row follows them, backwards all other rows do."""
    if value is None:
        return column.is_not(None) if backwards else false()
    down = order.descending != backwards
    behind = column < bound(column, value) if down else column > bound(column, value)
    return or_(behind, column.is_(None)) if column.nullable and not backwards else behind
