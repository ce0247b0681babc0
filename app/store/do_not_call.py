"""Numbers that are not to be dialled again, as E.164."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import delete, insert, select

from app.store.database import Database
from app.store.schema import do_not_call


def add(database: Database, numbers: Iterable[str], now: datetime) -> int:
    """How many were not there before."""
    wanted = set(numbers)
    with database.writing() as connection:
        there = connection.execute(select(do_not_call.c.phone_number).where(do_not_call.c.phone_number.in_(wanted)))
        fresh = wanted - set(there.scalars())
        if fresh:
            connection.execute(insert(do_not_call), [{"phone_number": one, "added_at": now} for one in sorted(fresh)])
        return len(fresh)


def remove(database: Database, numbers: Iterable[str]) -> int:
    """How many were there."""
    with database.writing() as connection:
        return connection.execute(delete(do_not_call).where(do_not_call.c.phone_number.in_(set(numbers)))).rowcount


def list_numbers(database: Database) -> list[dict[str, object]]:
    """All, in order."""
    with database.reading() as connection:
        rows = connection.execute(select(do_not_call).order_by(do_not_call.c.phone_number)).mappings()
        return [dict(row) for row in rows]


def numbers(database: Database) -> list[str]:
    """All, without when they were added."""
    with database.reading() as connection:
        return list(connection.execute(select(do_not_call.c.phone_number)).scalars())
