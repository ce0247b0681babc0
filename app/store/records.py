"""Records by their ids."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from app.cooperative import cooperatively
from app.errors import NotFound
from app.model import Delivery
from app.store.database import Database
from app.store.query.conditions import where
from app.store.query.order import ordering
from app.store.query.question import Question, Records
from app.store.rows import delivery_from_row

ROWS_AT_ONCE = 25  # rows may be large, and become Python objects


def get_record(database: Database, records: Records, key: UUID) -> dict[str, Any]:
    """Return one record's row. Raises `NotFound`."""
    return _row(database, records, key, records.columns)


def get_delivery(database: Database, key: UUID) -> Delivery:
    """Return the delivery with its body. Raises `NotFound`."""
    return delivery_from_row(_row(database, Records.DELIVERIES, key, Records.DELIVERIES.table.c))


def _row(database: Database, records: Records, key: UUID, columns: Any) -> dict[str, Any]:
    with database.reading() as connection:
        row = connection.execute(select(*columns).where(records.table.c.id == key)).mappings().first()
    if row is None:
        raise NotFound(f"there is no {records.singular} {key}")
    return dict(row)


def stored_deliveries(database: Database, ids: Collection[UUID]) -> set[UUID]:
    """Return those of the ids that belong to stored deliveries."""
    column = Records.DELIVERIES.table.c.id
    with database.reading() as connection:
        return set(connection.execute(select(column).where(column.in_(ids))).scalars())


def among(database: Database, question: Question, ids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
    """Return those of these records that match the question, by id; its order and limit are ignored."""
    table = question.records.table
    statement = select(*question.records.columns).where(table.c.id.in_(ids), *where(question))
    with database.reading() as connection:
        batches = cooperatively(connection.execute(statement).mappings().partitions(ROWS_AT_ONCE))
        return {row["id"]: dict(row) for rows in batches for row in rows}


def each(database: Database, question: Question, fields: Sequence[str], seconds: float) -> Iterator[dict[str, Any]]:
    """Yield all rows in the question's order, from one snapshot; only a batch of rows is in memory."""
    columns = [question.records.table.c[name] for name in fields]
    statement = select(*columns).where(*where(question)).order_by(*ordering(question))
    with (
        database.reading(seconds, alone=True) as connection,
        connection.execution_options(yield_per=ROWS_AT_ONCE).execute(statement) as result,
    ):
        for row in result.mappings():
            yield dict(row)
