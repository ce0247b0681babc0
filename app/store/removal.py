"""Removes calls and deliveries with all records that belong to them.

The journal reports each removed outcome to its followers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, or_, select

from app.store import journal
from app.store.legal_holds import IDENTIFYING_STARTS, starts_of
from app.store.query.conditions import is_any_of
from app.store.query.question import Records
from app.store.schema import deliveries, expected_calls, is_later, outcomes

Removed = Counter[Records]


def remove_outcomes(connection: Connection, ids: Collection[UUID], *only: ColumnElement[bool]) -> Removed:
    """Remove those outcomes that fulfil `only`, with their deliveries, their starts and their expected calls.

    Each row is locked before `only` is evaluated, in the order of ids, like every group of callbacks does. A
    concurrent callback is therefore stored either before, and may keep the outcome, or after, and creates it again.
    """
    rows: list[Row[Any]] = []
    for key in sorted(ids):
        row = connection.execute(delete(outcomes).where(outcomes.c.id == key, *only).returning(outcomes)).first()
        rows += [row] if row else []
    if not rows:
        return Removed()
    removed_ids = [row.id for row in rows]
    first_ids = {row.first_delivery_id for row in rows} - {None}
    later = deliveries.c.outcome_id.in_(removed_ids) & is_later
    belonging = or_(
        deliveries.c.id.in_(first_ids), later, deliveries.c.start_of.in_(_orphaned_starts(connection, rows))
    )
    removed = Removed({Records.OUTCOMES: len(removed_ids)})
    removed[Records.DELIVERIES] = connection.execute(delete(deliveries).where(belonging)).rowcount
    expected = select(expected_calls.c.id).where(expected_calls.c.outcome_id.in_(removed_ids))
    removed += remove_rows(connection, Records.EXPECTED_CALLS, connection.execute(expected).scalars().all())
    journal.note(connection, removed_ids)
    return removed


def _orphaned_starts(connection: Connection, removed: Sequence[Row[Any]]) -> set[UUID]:
    """Return the stored starts of removed calls that no other outcome shares, since several outcomes may have one
    call id. A hundred thousand may have it, so they are looked at only if there is a start."""
    by_start = {start: row.call_id for row in removed for start in starts_of([row])}
    own = deliveries.c.start_of
    stored = set(connection.execute(select(own).where(own.in_(by_start)).distinct()).scalars()) if by_start else set()
    if not stored:
        return stored
    is_shared = is_any_of(outcomes.c.call_id, sorted({by_start[start] for start in stored}))
    return stored - starts_of(connection.execute(select(*IDENTIFYING_STARTS).where(is_shared).distinct()).all())


def remove_rows(
    connection: Connection, records: Records, ids: Collection[UUID], *only: ColumnElement[bool]
) -> Removed:
    """Remove those rows that fulfil `only`, on which no other record depends, locked in the order of their ids.

    The outcomes of removed deliveries stay unchanged.
    """
    if not ids:
        return Removed()
    statement = delete(records.table).where(records.table.c.id == bindparam("key"), *only)
    return Removed({records: connection.execute(statement, [{"key": key} for key in sorted(ids)]).rowcount})
