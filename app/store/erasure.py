"""Finds the records that contain one phone number in any field, and removes them.

A call is removed as a whole: its outcome, all its deliveries, and its expected call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, select

from app.model import Delivery
from app.store.database import Database, release_space
from app.store.legal_holds import held, held_among, lock_holds
from app.store.query.question import Records
from app.store.removal import Removed, remove_outcomes, remove_rows
from app.store.rows import delivery_from_row
from app.store.scan import ROWS, all_rows
from app.store.schema import deliveries
from app.store.types import to_json

# Returns the texts of a delivery in which a number may occur.
Texts = Callable[[Delivery], Iterable[str]]


@dataclass(slots=True)
class Found:
    """The ids of the records that contain the number. `deliveries` has only those without an outcome."""

    outcomes: set[UUID] = field(default_factory=set)
    deliveries: set[UUID] = field(default_factory=set)
    expected_calls: set[UUID] = field(default_factory=set)
    held: set[UUID] = field(default_factory=set)  # those of any kind that a legal hold protects


def find(database: Database, has_number: Callable[[str], bool], texts: Texts) -> Found:
    """Read every row and return the matches. Raises `StoreUnavailable`."""
    with database.reading() as connection:
        holding = held(connection)
    found = Found()
    for row in _rows(database, Records.OUTCOMES):
        if any(map(has_number, _texts(row))):
            (found.held if holding.has(row.integration, row.id) else found.outcomes).add(row.id)
    for row in _rows(database, Records.DELIVERIES):
        if any(map(has_number, texts(delivery_from_row(row._mapping)))):
            target = found.outcomes if row.outcome_id else found.deliveries
            is_held = holding.has(row.integration, row.outcome_id, row.start_of)
            (found.held if is_held else target).add(row.outcome_id or row.id)
    for row in _rows(database, Records.EXPECTED_CALLS):
        if any(map(has_number, _texts(row))):
            (found.held if holding.has(row.integration, row.outcome_id) else found.expected_calls).add(row.id)
    return found


def remove(database: Database, found: Found) -> Removed:
    """Remove the records in batches, one transaction each. Records that are held by now stay, and are added to
    `found.held`.

    Raises `StoreUnavailable`.
    """
    removed = _remove(database, found, Records.DELIVERIES, found.deliveries, deliveries.c.outcome_id.is_(None))
    found.outcomes |= _outcomes_of(database, found.deliveries)  # of those that have become a call's since `find`
    removed += _remove(database, found, Records.OUTCOMES, found.outcomes)
    return removed + _remove(database, found, Records.EXPECTED_CALLS, found.expected_calls)


def _remove(
    database: Database, found: Found, records: Records, ids: Collection[UUID], *only: ColumnElement[bool]
) -> Removed:
    removed = Removed()
    for batch in _batches(ids):
        with database.writing() as connection:
            lock_holds(connection)
            held_ids = held_among(connection, records.table, batch)
            found.held |= held_ids
            removable = set(batch) - held_ids
            if records is Records.OUTCOMES:
                removed += remove_outcomes(connection, removable)
            else:
                removed += remove_rows(connection, records, removable, *only)
        release_space(database)
    return removed


def _outcomes_of(database: Database, delivery_ids: Collection[UUID]) -> set[UUID]:
    own, ids = deliveries.c, set[UUID]()
    for batch in _batches(delivery_ids):
        statement = select(own.outcome_id).where(own.id.in_(batch), own.outcome_id.is_not(None))
        with database.reading() as connection:
            ids |= set(connection.execute(statement).scalars())
    return ids


def _rows(database: Database, records: Records) -> Iterator[Row[Any]]:
    return all_rows(database, records, list(records.table.c))


def _texts(row: Row[Any]) -> Iterator[str]:
    for value in row:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | dict):
            yield to_json(value)


def _batches(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    ordered = sorted(ids)
    return (ordered[at : at + ROWS] for at in range(0, len(ordered), ROWS))
