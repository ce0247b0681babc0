"""Questions that analysts put: filters, order and pages over outcomes and deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Select, Table, and_, func, or_, select, union_all

from app.errors import NotFound
from app.model import Delivery
from app.store.database import Database
from app.store.rows import delivery_from_row
from app.store.schema import deliveries, outcomes


@dataclass(frozen=True, slots=True)
class Edge:
    """The row at one end of a page: `at` is its moment in the page's order."""

    at: datetime
    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which rows, in which order. `equal`: any of the values, None for null; `since` ≤ moment < `until`."""

    equal: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    newest_first: bool = True
    limit: int = 100
    after: Edge | None = None
    before: Edge | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in the question's order, and whether more lie on either side."""

    rows: list[dict[str, Any]]
    more_before: bool
    more_after: bool


_INTERNAL = ("digest", "body_sha256", "first_delivery_id", "body", "declared", "later")
_OUTCOME_COLUMNS = [column for column in outcomes.c if column.name not in _INTERNAL]
_DELIVERY_COLUMNS = [column for column in deliveries.c if column.name not in _INTERNAL]


def list_outcomes(database: Database, question: Question) -> Page:
    return _page(database, select(*_OUTCOME_COLUMNS), outcomes, outcomes.c.ended_at, question)


def list_deliveries(database: Database, question: Question) -> Page:
    return _page(database, select(*_DELIVERY_COLUMNS), deliveries, deliveries.c.received_at, question)


def count_outcomes(database: Database, question: Question) -> int:
    return _count(database, outcomes, outcomes.c.ended_at, question)


def count_deliveries(database: Database, question: Question) -> int:
    return _count(database, deliveries, deliveries.c.received_at, question)


def get_outcome_record(database: Database, outcome_id: UUID) -> dict[str, Any]:
    """Raises `NotFound`."""
    return _record(database, select(*_OUTCOME_COLUMNS).where(outcomes.c.id == outcome_id), f"outcome {outcome_id}")


def get_delivery_record(database: Database, delivery_id: UUID) -> dict[str, Any]:
    """Raises `NotFound`."""
    return _record(
        database, select(*_DELIVERY_COLUMNS).where(deliveries.c.id == delivery_id), f"delivery {delivery_id}"
    )


def get_delivery(database: Database, delivery_id: UUID) -> Delivery:
    """The delivery itself, body and all. Raises `NotFound`."""
    statement = select(deliveries).where(deliveries.c.id == delivery_id)
    return delivery_from_row(_record(database, statement, f"delivery {delivery_id}"))


def _record(database: Database, statement: Select[Any], what: str) -> dict[str, Any]:
    with database.reading() as connection:
        row = connection.execute(statement).mappings().first()
    if row is None:
        raise NotFound(f"there is no {what}")
    return dict(row)


def _count(database: Database, table: Table, moment: Column[datetime], question: Question) -> int:
    statement = select(func.count()).select_from(table).where(*_conditions(table, moment, question))
    with database.reading() as connection:
        return connection.execute(statement).scalar_one()


def _page(database: Database, rows: Select[Any], table: Table, moment: Column[datetime], question: Question) -> Page:
    """One row more than asked tells whether another page follows."""
    backwards = question.before is not None
    edge = question.before or question.after
    descending = question.newest_first
    statement = rows.where(*_conditions(table, moment, question))
    if edge:
        statement = statement.where(_beyond(moment, table.c.id, edge, descending != backwards, backwards))
    statement = statement.order_by(
        moment.desc() if descending != backwards else moment.asc(),
        table.c.id.desc() if backwards else table.c.id.asc(),
    )
    with database.reading() as connection:
        found = [dict(row) for row in connection.execute(statement.limit(question.limit + 1)).mappings()]
    more, page = len(found) > question.limit, found[: question.limit]
    if backwards:
        return Page(page[::-1], more_before=more, more_after=True)
    return Page(page, more_before=edge is not None, more_after=more)


def _conditions(table: Table, moment: Column[datetime], question: Question) -> list[ColumnElement[bool]]:
    conditions = [_any_of(table.c[name], values) for name, values in question.equal.items()]
    if question.since:
        conditions.append(moment >= question.since)
    if question.until:
        conditions.append(moment < question.until)
    return conditions


def _any_of(column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    if column is deliveries.c.outcome_id:
        return of_outcomes(values)
    return column == values[0] if len(values) == 1 else column.in_(values)


def _beyond(
    moment: Column[datetime], key: Column[UUID], edge: Edge, descending: bool, backwards: bool
) -> ColumnElement[bool]:
    """Behind the edge in the order walked. The first comparison is the one that an index can start from."""
    further = moment < edge.at if descending else moment > edge.at
    reachable = moment <= edge.at if descending else moment >= edge.at
    return and_(reachable, or_(further, key < edge.id if backwards else key > edge.id))


def of_outcomes(ids: Sequence[UUID]) -> ColumnElement[bool]:
    """Of deliveries: that they tell of these outcomes. The first of each is named in its outcome's row."""
    first = select(outcomes.c.first_delivery_id).where(outcomes.c.id.in_(ids))
    later = select(deliveries.c.id).where(deliveries.c.outcome_id.in_(ids), deliveries.c.later)
    return deliveries.c.id.in_(union_all(first, later))
