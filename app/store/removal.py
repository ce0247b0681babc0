"""Removes calls and deliveries with all that is kept of them.

Whoever follows the journal hears of each outcome that is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, delete, or_, select

from app.store import journal
from app.store.legal_holds import starts_of
from app.store.query.question import Records
from app.store.schema import deliveries, expected_calls, is_later, outcomes

Removed = Counter[Records]


def remove_outcomes(connection: Connection, ids: Collection[UUID], *only: ColumnElement[bool]) -> Removed:
    """Those of them for which `only` holds, with their deliveries, their starts, and the calls that expected them.

    A row is locked before `only` is asked, in the order of ids, as every group of callbacks does it: a callback about
    it comes before, and keeps it, or after, and makes it anew.
    """
    rows: list[Row[Any]] = []
    for key in sorted(ids):
        row = connection.execute(delete(outcomes).where(outcomes.c.id == key, *only).returning(outcomes)).first()
        rows += [row] if row else []
    if not rows:
        return Removed()
    gone = [row.id for row in rows]
    firsts = {row.first_delivery_id for row in rows} - {None}
    later = deliveries.c.outcome_id.in_(gone) & is_later
    received = or_(deliveries.c.id.in_(firsts), later, deliveries.c.start_of.in_(_starts_left(connection, rows)))
    removed = Removed({Records.OUTCOMES: len(gone)})
    removed[Records.DELIVERIES] = connection.execute(delete(deliveries).where(received)).rowcount
    waiting = delete(expected_calls).where(expected_calls.c.outcome_id.in_(gone))
    removed[Records.EXPECTED_CALLS] = connection.execute(waiting).rowcount
    journal.note(connection, gone)
    return removed


def _starts_left(connection: Connection, gone: Sequence[Row[Any]]) -> set[UUID]:
    """Those of the calls that are gone which no other outcome has: several may tell of one call."""
    calls = {row.call_id for row in gone} - {None}
    others = connection.execute(select(outcomes).where(outcomes.c.call_id.in_(calls))).all() if calls else []
    return starts_of(gone) - starts_of(others)


def remove_rows(connection: Connection, records: Records, ids: Collection[UUID]) -> Removed:
    """Rows of which nothing else is made; of deliveries, their outcome stays as it is."""
    statement = delete(records.table).where(records.table.c.id.in_(ids))
    return Removed({records: connection.execute(statement).rowcount})
