"""Finds what holds one phone number, wherever it stands, and removes it.

A call goes as a whole: its outcome, all that was received about it, and the call that expected it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from app.model import Delivery
from app.store.database import Database, release_space
from app.store.legal_holds import held, held_among
from app.store.query.question import Records
from app.store.removal import Removed, remove_outcomes, remove_rows
from app.store.rows import delivery_from_row
from app.store.scan import ROWS, all_rows
from app.store.types import to_json

# Gives the texts of a delivery in which a number may stand.
Texts = Callable[[Delivery], Iterable[str]]


@dataclass(slots=True)
class Found:
    """What holds the number, by id: of deliveries those that tell of no outcome."""

    outcomes: set[UUID] = field(default_factory=set)
    deliveries: set[UUID] = field(default_factory=set)
    expected_calls: set[UUID] = field(default_factory=set)
    held: set[UUID] = field(default_factory=set)  # of any of these: what a legal hold keeps


def find(database: Database, has_number: Callable[[str], bool], texts: Texts) -> Found:
    """By a look at every row. Raises `StoreUnavailable`."""
    with database.reading() as connection:
        holding = held(connection)
    found = Found()
    for row in _rows(database, Records.OUTCOMES):
        if any(map(has_number, _texts(row))):
            (found.held if holding.has(row.integration, row.id) else found.outcomes).add(row.id)
    for row in _rows(database, Records.DELIVERIES):
        if any(map(has_number, texts(delivery_from_row(row._mapping)))):
            mine = found.outcomes if row.outcome_id else found.deliveries
            is_held = holding.has(row.integration, row.outcome_id, row.start_of)
            (found.held if is_held else mine).add(row.outcome_id or row.id)
    for row in _rows(database, Records.EXPECTED_CALLS):
        if any(map(has_number, _texts(row))):
            (found.held if holding.has(row.integration, row.outcome_id) else found.expected_calls).add(row.id)
    return found


def remove(database: Database, found: Found) -> Removed:
    """All but what is held by now, which `found` is told, some a transaction. Raises `StoreUnavailable`."""
    removed = Removed()
    for records, ids in (
        (Records.OUTCOMES, found.outcomes),
        (Records.DELIVERIES, found.deliveries),
        (Records.EXPECTED_CALLS, found.expected_calls),
    ):
        for some in _some_at_a_time(ids):
            with database.writing() as connection:
                kept = held_among(connection, records.table, some)
                free = set(some) - kept
                found.held |= kept
                is_call = records is Records.OUTCOMES
                removed += remove_outcomes(connection, free) if is_call else remove_rows(connection, records, free)
            release_space(database)
    return removed


def _rows(database: Database, records: Records) -> Iterator[Row[Any]]:
    return all_rows(database, records, list(records.table.c))


def _texts(row: Row[Any]) -> Iterator[str]:
    for value in row:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | dict):
            yield to_json(value)


def _some_at_a_time(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    ordered = sorted(ids)
    return (ordered[at : at + ROWS] for at in range(0, len(ordered), ROWS))
