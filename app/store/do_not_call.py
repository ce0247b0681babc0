"""Numbers that must not be dialled again, as E.164."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import delete, select

from app.store.bulk import insert_rows
from app.store.database import Database
from app.store.query.conditions import is_any_of
from app.store.schema import do_not_call

AT_ONCE = 1000  # rows that are sent together: parameters are limited, and so is the wait for an answer


def add(database: Database, numbers: Iterable[str], now: datetime) -> int:
    """Add numbers, in transactions for which callbacks do not wait long; return how many are new."""
    rows = [(number, now) for number in sorted(set(numbers))]
    if_new = "ON CONFLICT DO NOTHING RETURNING phone_number"
    added = 0
    for at in range(0, len(rows), AT_ONCE):
        with database.writing() as connection:
            added += len(insert_rows(connection, do_not_call, rows[at : at + AT_ONCE], if_new))
    return added


def remove(database: Database, numbers: Iterable[str]) -> int:
    """Remove numbers, in transactions for which callbacks do not wait long; return how many were listed."""
    ordered = sorted(set(numbers))
    removed = 0
    for at in range(0, len(ordered), AT_ONCE):
        listed = do_not_call.c.phone_number.in_(ordered[at : at + AT_ONCE])
        with database.writing() as connection:
            removed += connection.execute(delete(do_not_call).where(listed)).rowcount
    return removed


def list_numbers(database: Database) -> list[dict[str, object]]:
    """Return all numbers with the time of adding, sorted."""
    with database.reading() as connection:
        rows = connection.execute(select(do_not_call).order_by(do_not_call.c.phone_number)).mappings()
        return [dict(row) for row in rows]


def among(database: Database, candidates: Collection[str]) -> set[str]:
    """Return those of these numbers that are listed now."""
    listed = select(do_not_call.c.phone_number).where(is_any_of(do_not_call.c.phone_number, sorted(candidates)))
    with database.reading() as connection:
        return set(connection.execute(listed).scalars())


def numbers(database: Database) -> list[str]:
    """Return all numbers."""
    with database.reading() as connection:
        return list(connection.execute(select(do_not_call.c.phone_number)).scalars())
