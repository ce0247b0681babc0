"""Forgets what is older than it may be kept, some rows a transaction, so that no callback waits long for one.

Age is told by this service's clock alone: of an outcome since the last that was heard of it, so that no time that a
sender wrote makes a result disappear. One that ended in the future, by its sender's clock, stays until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from app.store.database import Database, release_space
from app.store.legal_holds import Held, held
from app.store.query.question import Edge, Records
from app.store.removal import Removed, remove_outcomes, remove_rows
from app.store.scan import next_rows
from app.store.schema import outcomes

LOOKED_AT = 1000  # rows at a time
AT_ONCE = 50  # that are removed in a transaction, during which others that write have to wait

# By what a row is judged, besides its time.
_JUDGED = ("integration", "updated_at", "outcome_id", "start_of", "ends_at")


class Step(NamedTuple):
    """What a transaction removed, and for how many seconds others had to wait for it."""

    removed: Removed
    seconds: float


def find(
    database: Database, records: Records, before: datetime, edge: Edge | None
) -> tuple[list[Row[Any]], Edge | None]:
    """Those of the next rows, the oldest first, that are older than `before` and that nothing holds; and the edge
    behind which there may be more. Raises `StoreUnavailable`."""
    columns = [column for column in records.table.c if column.name in _JUDGED]
    with database.reading() as connection:
        rows, edge = next_rows(connection, records, columns, edge, before, LOOKED_AT)
        return _old(connection, records, rows, before), edge


def remove(database: Database, records: Records, rows: Sequence[Row[Any]], before: datetime) -> Step:
    """Forget these rows, but those that somebody holds by now, or was heard of. Raises `StoreUnavailable`."""
    with database.writing() as connection:
        began = time.monotonic()  # the wait for the lock does not count
        ids = [row.id for row in _old(connection, records, rows, before)]
        if records is Records.OUTCOMES:
            removed = remove_outcomes(connection, ids, outcomes.c.updated_at < before)
        else:
            removed = remove_rows(connection, records, ids)
    step = Step(removed, time.monotonic() - began)
    release_space(database)
    return step


def _old(connection: Connection, records: Records, rows: Sequence[Row[Any]], before: datetime) -> list[Row[Any]]:
    is_kept, holding = _KEPT[records], held(connection)
    return [row for row in rows if not is_kept(row, before, holding)]


def _outcome_is_kept(row: Row[Any], before: datetime, holding: Held) -> bool:
    return row.updated_at >= before or holding.has(row.integration, row.id)


def _delivery_is_kept(row: Row[Any], before: datetime, holding: Held) -> bool:
    return holding.has(row.integration, row.outcome_id, row.start_of)


def _call_is_kept(row: Row[Any], before: datetime, holding: Held) -> bool:
    return (row.ends_at is not None and row.ends_at >= before) or holding.has(row.integration, row.outcome_id)


def _entry_is_kept(row: Row[Any], before: datetime, holding: Held) -> bool:
    return False


_KEPT: dict[Records, Callable[[Row[Any], datetime, Held], bool]] = {
    Records.OUTCOMES: _outcome_is_kept,
    Records.DELIVERIES: _delivery_is_kept,
    Records.EXPECTED_CALLS: _call_is_kept,
    Records.AUDIT: _entry_is_kept,
}
