"""Removes calls and deliveries with all that is kept of them.

Whoever follows the journal hears of each outcome that is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, or_

from app.identity import start_id
from app.store import changes
from app.store.query.question import Records
from app.store.schema import deliveries, expected_calls, is_later, outcomes

Removed = Counter[Records]


def remove_outcomes(connection: Connection, ids: Collection[UUID], *only: ColumnElement[bool]) -> Removed:
    """Those of them for which `only` holds, with their deliveries, their starts, and the calls that expected them.

    A row is locked before `only` is asked, in the order of ids, as every group of callbacks does it: a callback about
    it comes before, and keeps it, or after, and makes it anew.
    """
    gone: list[UUID] = []
    firsts: set[UUID | None] = set()
    starts: set[UUID | None] = set()
    for key in sorted(ids):
        row = connection.execute(delete(outcomes).where(outcomes.c.id == key, *only).returning(outcomes)).first()
        if row is None:
            continue
        gone.append(key)
        firsts.add(row.first_delivery_id)
        phone = row.phone_number or row.phone_number_raw
        starts.add(start_id(row.integration, row.call_id, row.message_reference, phone))
    if not gone:
        return Removed()
    later = deliveries.c.outcome_id.in_(gone) & is_later
    received = or_(deliveries.c.id.in_(firsts - {None}), later, deliveries.c.start_of.in_(starts - {None}))
    removed = Removed({Records.OUTCOMES: len(gone)})
    removed[Records.DELIVERIES] = connection.execute(delete(deliveries).where(received)).rowcount
    waiting = delete(expected_calls).where(expected_calls.c.outcome_id.in_(gone))
    removed[Records.EXPECTED_CALLS] = connection.execute(waiting).rowcount
    changes.note(connection, gone)
    return removed


def remove_rows(connection: Connection, records: Records, ids: Collection[UUID]) -> Removed:
    """Rows of which nothing else is made; of deliveries, their outcome stays as it is."""
    statement = delete(records.table).where(records.table.c.id.in_(ids))
    return Removed({records: connection.execute(statement).rowcount})
