"""Forgets what is older than it may be kept, some rows a transaction, so that no callback waits long for one.

Age is told by this service's clock alone: of an outcome since the last that was heard of it, so that no time that a
sender wrote makes a result disappear. One that ended in the future, by its sender's clock, stays until then.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row, func, select

from app.store.database import Database, release_space
from app.store.holds import Held, held
from app.store.query.question import Edge, Records
from app.store.removal import Removed, remove_outcomes, remove_rows
from app.store.schema import outcomes
from app.store.walk import TIME, next_rows

# By what a row is judged, besides its time.
_JUDGED = ("integration", "updated_at", "outcome_id", "start_of", "ends_at")


class Step(NamedTuple):
    """What some rows came to; behind `edge` there may be more."""

    removed: Removed
    edge: Edge | None


def prune(
    database: Database, records: Records, before: datetime, edge: Edge | None = None, *, dry_run: bool = False
) -> Step:
    """Forget those of the next rows, the oldest first, that are older than `before` and that nothing holds.

    A dry run says what would go. Raises `StoreUnavailable`.
    """
    columns = [column for column in records.table.c if column.name in _JUDGED]
    with database.reading() if dry_run else database.writing() as connection:
        rows, edge = next_rows(connection, records, columns, edge, before)
        is_kept, holding = _KEPT[records], held(connection)
        ids = [row.id for row in rows if not is_kept(row, before, holding)]
        removed = Removed({records: len(ids)}) if dry_run else _remove(connection, records, ids, before)
    if removed.total() and not dry_run:
        release_space(database)
    return Step(removed, edge)


def oldest(database: Database, records: Records) -> datetime | None:
    """The time of the oldest that is kept, as `prune` goes by it."""
    with database.reading() as connection:
        found: datetime | None = connection.execute(select(func.min(records.table.c[TIME[records]]))).scalar()
        return found


def _remove(connection: Connection, records: Records, ids: list[UUID], before: datetime) -> Removed:
    if records is Records.OUTCOMES:
        return remove_outcomes(connection, ids, outcomes.c.updated_at < before)
    return remove_rows(connection, records, ids)


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
