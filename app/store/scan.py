"""Reads all rows of a kind, the oldest first, in batches, so that no lock is held between batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Row

from app.store.database import Database
from app.store.query.order import page_of
from app.store.query.question import Condition, Edge, Operator, Order, Question, Records

ROWS = 100

# The indexed time of each kind.
TIME = {
    Records.OUTCOMES: "ended_at",
    Records.DELIVERIES: "received_at",
    Records.EXPECTED_CALLS: "registered_at",
    Records.AUDIT: "at",
}


def next_rows(
    connection: Connection,
    records: Records,
    columns: Sequence[Column[Any]],
    edge: Edge | None,
    before: datetime | None = None,
    limit: int = ROWS,
) -> tuple[Sequence[Row[Any]], Edge | None]:
    """Return the next rows with these columns, the id and the time, and the edge from which to continue; None at the
    end."""
    time = TIME[records]
    question = Question(
        records=records,
        conditions=[Condition(time, Operator.LT, [before])] if before else [],
        order=[Order(time), Order("id", descending=True)],
        edge=edge,
    )
    selected = {column.name: column for column in (*columns, records.table.c[time], records.table.c.id)}
    rows = connection.execute(page_of(question, list(selected.values()), limit)).all()
    is_last = len(rows) < limit
    return rows, None if is_last else Edge([getattr(rows[-1], time), rows[-1].id])


def all_rows(database: Database, records: Records, columns: Sequence[Column[Any]]) -> Iterator[Row[Any]]:
    """Yield each row that exists during the whole scan. Raises `StoreUnavailable`."""
    edge, is_done = None, False
    while not is_done:
        with database.reading() as connection:
            rows, edge = next_rows(connection, records, columns, edge)
        yield from rows
        is_done = edge is None
