"""Rows in order, a page at a time by keyset.

A page begins behind the row that the one before ended with, so it costs the same however far it is, and rows that
are written meanwhile neither repeat others nor push them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    UnaryExpression,
    and_,
    false,
    or_,
    select,
)

from app.errors import EdgeLost, TooSlow
from app.store.answers.light import LARGE_BYTES, WEIGHT, light
from app.store.asking.conditions import bound, same, where
from app.store.asking.questions import Condition, Digest, Edge, Operator, Order, Question
from app.store.database import Database
from app.store.deadline import STATEMENT_SECONDS, Deadline
from app.store.rollups import following, narrowing
from app.store.rollups.covering import Stretch
from app.store.rollups.stretches import ended_within, in_any, together, within
from app.store.schema import outcomes

Row = dict[str, Any]

QUICK_SECONDS = 0.005
# Of a page, but for its last row: the worker holds it several times over, as rows, records and text.
PAGE_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in the question's order, and whether more lie on either side."""

    rows: list[Row]
    more_before: bool
    more_after: bool


def page(database: Database, question: Question, fields: Sequence[str] | None = None) -> Page:
    """One page, with these fields and those of the order, or all; fewer rows than asked for where these are large.

    They are looked for without what is large in them, and only those that fit are asked for whole.
    Raises `TooSlow`, `EdgeLost`.
    """
    question = _with_long_texts(database, question)
    columns = _columns(question, fields)
    kept = [order.field for order in question.whole_order]
    # One row more than asked tells whether another page follows.
    found = _found(database, question, light(columns, kept, database.engine.dialect.name), question.limit + 1)
    weights = [row.pop(WEIGHT) for row in found]
    fitting = _fitting(weights[: question.limit])
    rows, more = found[:fitting], len(found) > fitting
    if any(weight > LARGE_BYTES for weight in weights[:fitting]):
        rows = _found(database, question, columns, fitting)
    if question.edge and question.edge.backwards:
        return Page(rows[::-1], more_before=more, more_after=True)
    return Page(rows, more_before=question.edge is not None, more_after=more)


def _with_long_texts(database: Database, question: Question) -> Question:
    """The question with those of its edge's texts that are told by digests."""
    edge = question.edge
    if edge is None or not any(isinstance(value, Digest) for value in edge.values):
        return question
    table = question.records.table
    columns = [table.c[order.field] for order in question.whole_order]
    with database.reading() as connection:
        row = connection.execute(select(*columns).where(table.c.id == edge.values[-1])).one_or_none()
    if row is None or not all(map(_is_still, edge.values, row)):
        raise EdgeLost("cursor: the row that the page ended with is gone or has changed; begin with the first page")
    return replace(question, edge=replace(edge, values=list(row)))


def _is_still(told: Any, found: Any) -> bool:
    return bool(told == (Digest.of(found) if isinstance(told, Digest) and found is not None else found))


def _fitting(weights: Sequence[int]) -> int:
    """How many rows make a page; the one that fills it is its last."""
    full = (count for count, held in enumerate(accumulate(weights), start=1) if held > PAGE_BYTES)
    return next(full, len(weights))


def _found(database: Database, question: Question, columns: Sequence[ColumnElement[Any]], wanted: int) -> list[Row]:
    """So many rows beyond the edge, in the order walked."""
    backwards = question.edge is not None and question.edge.backwards
    statement = select(*columns).where(*where(question)).order_by(*ordering(question, backwards))
    if question.edge:
        statement = statement.where(*_beyond(question, question.edge))
    found = _quickly(database, question, statement.limit(wanted))
    if found is None:
        with database.reading(at_one_moment=True) as connection:
            found = _first(connection, question, statement, wanted)
    return found


def _quickly(database: Database, question: Question, statement: Select[Any]) -> list[Row] | None:
    """By a walk, where that soon finds what is asked for; None where it may have to pass much else."""
    condition = _followed(question)
    if (condition and following.is_rare(condition)) or not (condition or narrowing.is_narrowable(question)):
        return None
    try:
        with database.reading(QUICK_SECONDS, alone=True) as connection:
            return [dict(row) for row in connection.execute(statement).mappings().all()]
    except TooSlow:
        return None


def _first(connection: Connection, question: Question, statement: Select[Any], wanted: int) -> list[Row]:
    """By stretches where there are any, one after the other until there are enough."""
    backwards = question.edge is not None and question.edge.backwards
    down = question.whole_order[0].descending != backwards
    deadline = Deadline(STATEMENT_SECONDS)
    stretches = _places(connection, question, deadline, down=down)
    if stretches is None:
        return [dict(row) for row in connection.execute(statement.limit(wanted)).mappings().all()]
    found: list[Row] = []
    for one in _by_stretches(connection, question, statement, stretches, backwards):
        deadline.check()
        found += [dict(row) for row in connection.execute(one.limit(wanted - len(found))).mappings().all()]
        if len(found) == wanted:
            break
    return found


def _by_stretches(
    connection: Connection, question: Question, whole: Select[Any], stretches: Iterator[Stretch], backwards: bool
) -> Iterator[Select[Any]]:
    """In the order walked: what ended at the moment of the edge, then what lies in the stretches beyond it."""
    if question.edge:
        moment = question.edge.values[0]
        yield whole.where(outcomes.c.ended_at == bound(outcomes.c.ended_at, moment))
        is_down = question.whole_order[0].descending != backwards
        beyond = Condition("ended_at", Operator.LT if is_down else Operator.GT, [moment])
        question = replace(question, conditions=[*question.conditions, beyond])
    rest, cut = within(question, stretches)
    statement = select(*whole.selected_columns).where(*where(rest))
    for some in together(cut):
        if len(some) == 1:
            yield statement.where(ended_within(some[0])).order_by(*ordering(question, backwards))
        else:
            found = in_any(statement, some, connection.dialect)
            yield select(found).order_by(*ordering(question, backwards, found))


def _places(
    connection: Connection, question: Question, deadline: Deadline, *, down: bool
) -> Iterator[Stretch] | None:
    """Where the rows lie, from the edge on; None where neither roll-ups nor traces can tell."""
    condition = _followed(question)
    if question.edge:
        beyond = Condition("ended_at", Operator.LTE if down else Operator.GTE, [question.edge.values[0]])
        question = replace(question, conditions=[*question.conditions, beyond])
    if narrowing.is_narrowable(question) and not (condition and following.is_telling(condition)):
        found = narrowing.places(connection, question, down=down)
        if found is not None:
            return found
    return following.places(connection, question, deadline, down=down) if condition else None


def _followed(question: Question) -> Condition | None:
    """The condition by whose traces the rows are found in their order."""
    is_in_order = question.whole_order[0].field == "ended_at"
    return following.followed(question) if is_in_order else None


def ordering(
    question: Question, backwards: bool = False, source: FromClause | None = None
) -> list[UnaryExpression[Any]]:
    """The question's order, with its last tie-break; of the table, or of a source with its columns."""
    columns: Any = (question.records.table if source is None else source).c
    return [_ordering(columns[order.field], order, backwards) for order in question.whole_order]


def _columns(question: Question, fields: Sequence[str] | None) -> list[Column[Any]]:
    """Those of the order are always there, for the edges of the page."""
    wanted = None if fields is None else {*fields, *(order.field for order in question.whole_order)}
    return [column for column in question.records.columns if wanted is None or column.name in wanted]


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
