"""Prunes records that exceed their retention time, a few rows a transaction, so that callbacks do not wait long.

Only this service's clock determines age; an outcome's age counts from its last update. No time that a sender wrote
can therefore remove a result early. An outcome that ended in the future, by its sender's clock, stays until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Row, select

from app.store.database import Database, release_space
from app.store.legal_holds import Held, held, lock_holds
from app.store.query.question import Edge, Records
from app.store.removal import Removed, remove_outcomes, remove_rows
from app.store.scan import next_rows
from app.store.schema import outcomes

LOOKED_AT = 1000  # rows that are read at a time
AT_ONCE = 50  # rows that are removed in one transaction, during which other writers have to wait

# Columns that decide if a row is kept, besides its time.
_DECIDING = ("integration", "updated_at", "outcome_id", "start_of", "ends_at")


class Step(NamedTuple):
    """What a transaction removed, and for how many seconds it held the lock."""

    removed: Removed
    seconds: float


def find(
    database: Database, records: Records, before: datetime, edge: Edge | None
) -> tuple[list[Row[Any]], Edge | None]:
    """Return those of the next rows, the oldest first, that are older than `before` and not held, and the edge from
    which to continue. Raises `StoreUnavailable`."""
    with database.reading() as connection:
        rows, edge = next_rows(connection, records, _deciding(records), edge, before, LOOKED_AT)
        return _removable(connection, records, rows, before), edge


def remove(database: Database, records: Records, rows: Sequence[Row[Any]], before: datetime) -> Step:
    """Remove the rows, except those that are to be kept by now: held, updated or of another call. Raises
    `StoreUnavailable`."""
    with database.writing() as connection:
        began = time.monotonic()  # the wait for the lock is not counted
        lock_holds(connection)
        key = records.table.c.id
        found = select(key, *_deciding(records)).where(key.in_([row.id for row in rows]))
        ids = [row.id for row in _removable(connection, records, connection.execute(found).all(), before)]
        if records is Records.OUTCOMES:
            removed = remove_outcomes(connection, ids, outcomes.c.updated_at < before)
        else:
            removed = remove_rows(connection, records, ids)
    step = Step(removed, time.monotonic() - began)
    release_space(database)
    return step


def _deciding(records: Records) -> list[Column[Any]]:
    return [column for column in records.table.c if column.name in _DECIDING]


def _removable(
    connection: Connection, records: Records, rows: Sequence[Row[Any]], before: datetime
) -> list[Row[Any]]:
    if records is Records.AUDIT:
        return list(rows)
    is_kept, holding = _KEPT[records], held(connection, rows)
    return [row for row in rows if not is_kept(row, before, holding)]


def _outcome_is_kept(row: Row[Any], before: datetime, holding: Held) -> bool:
    return row.updated_at >= before or holding.has(row.integration, row.id)


def _delivery_is_kept(row: Row[Any], before: datetime, holding: Held) -> bool:
    return holding.has(row.integration, row.outcome_id, row.start_of)


def _call_is_kept(row: Row[Any], before: datetime, holding: Held) -> bool:
    return (row.ends_at is not None and row.ends_at >= before) or holding.has(row.integration, row.outcome_id)


_KEPT: dict[Records, Callable[[Row[Any], datetime, Held], bool]] = {
    Records.OUTCOMES: _outcome_is_kept,
    Records.DELIVERIES: _delivery_is_kept,
    Records.EXPECTED_CALLS: _call_is_kept,
}
