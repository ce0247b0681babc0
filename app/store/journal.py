"""Which outcomes are new or have changed, in an order that misses none.

Each transaction that changes outcomes leaves one row: on PostgreSQL under its transaction's number, on SQLite, where
writers queue, under the next free one. Numbers are given when a transaction begins, not when it commits, so "all
above the last one seen" would miss a slow one. A `Horizon` therefore also names those that were still running; what
lies between two horizons is always the same, and waits for no transaction that somebody holds open.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, delete, func, insert, or_, select, text

from app.store.database import Database
from app.store.schema import changes, positions

KEPT = timedelta(days=7)
PATIENCE_SECONDS = 2.0
LOOK_SECONDS = 0.01
PAGE_ROWS = 32
PAGE_OUTCOMES = 20  # each of which may be large; or one row, however many it has

_RENEWED = "renewed"
_NOTE_SQLITE = "INSERT INTO changes (changed_at, outcome_ids) VALUES (strftime('%Y-%m-%d %H:%M:%f000', 'now'), ?)"
_NOTE_POSTGRESQL = (
    "INSERT INTO changes (id, changed_at, outcome_ids) VALUES (pg_current_xact_id()::text::bigint, now(), %s) "
    "ON CONFLICT (id) DO UPDATE SET outcome_ids = changes.outcome_ids || excluded.outcome_ids"
)


class Horizon(NamedTuple):
    """All numbers below `end` are seen, but for those of transactions that were still running."""

    end: int
    running: tuple[int, ...] = ()


class Span(NamedTuple):
    """What came between two horizons, from the outcome `sent` of the change `id` on."""

    seen: Horizon
    upto: Horizon
    id: int = 0
    sent: int = 0


class Change(NamedTuple):
    id: int
    changed_at: datetime
    outcome_ids: list[UUID]


class Mark(NamedTuple):
    """One change, by what tells it from that of the same number in another journal."""

    id: int
    changed_at: datetime


def note(connection: Connection, outcome_ids: Iterable[UUID]) -> None:
    """Say within a transaction which outcomes it makes, changes or removes."""
    packed = b"".join(one.bytes for one in outcome_ids)
    if packed:
        sqlite = connection.dialect.name == "sqlite"
        connection.exec_driver_sql(_NOTE_SQLITE if sqlite else _NOTE_POSTGRESQL, (packed,))


def horizon(database: Database) -> Horizon:
    """How far it is now."""
    with database.reading() as connection:
        if database.is_sqlite:
            return Horizon((connection.execute(select(func.max(changes.c.id))).scalar() or 0) + 1)
        return _parsed(connection.execute(text("SELECT pg_current_snapshot()::text")).scalar_one())


def wait_for_running(database: Database) -> None:
    """Until the transactions that write now have ended, some seconds at most: who asks then sees what they wrote."""
    running, ends = set(horizon(database).running), time.monotonic() + PATIENCE_SECONDS
    while running and time.monotonic() < ends:
        time.sleep(LOOK_SECONDS)
        running &= set(horizon(database).running)


def page(
    database: Database, span: Span, most_rows: int = PAGE_ROWS, most_outcomes: int = PAGE_OUTCOMES
) -> list[Change]:
    """The first changes of the span, at most so many rows with so many outcomes; none where it is at its end."""
    numbers = changes.c.id
    is_new = or_(numbers >= span.seen.end, numbers.in_(span.seen.running))
    statement = (
        select(numbers, changes.c.changed_at, changes.c.outcome_ids)
        .where(is_new, numbers < span.upto.end, numbers.not_in(span.upto.running), numbers >= span.id)
        .order_by(numbers)
        .limit(most_rows)
    )
    with database.reading() as connection:
        rows = connection.execute(statement).all()
    found = [Change(row.id, row.changed_at, _unpacked(row.outcome_ids)) for row in rows]
    if found and found[0].id == span.id:
        found[0].outcome_ids[: span.sent] = []
    return list(_first([change for change in found if change.outcome_ids], most_outcomes))


def last(database: Database, seen: Horizon) -> Mark | None:
    """The newest change that was seen at this horizon; None where none is left."""
    numbers = changes.c.id
    statement = select(numbers, changes.c.changed_at).where(numbers < seen.end, numbers.not_in(seen.running))
    with database.reading() as connection:
        row = connection.execute(statement.order_by(numbers.desc()).limit(1)).first()
    return Mark(row.id, row.changed_at) if row else None


def has(database: Database, mark: Mark) -> bool:
    """Whether the journal still holds this change: all that came after it is there then."""
    with database.reading() as connection:
        stored = select(changes.c.changed_at).where(changes.c.id == mark.id)
        return connection.execute(stored).scalar() == mark.changed_at


def prune(database: Database, before: datetime) -> int:
    """Forget older changes; how many. The newest stays: SQLite numbers on from it, and followers know it again."""
    statement = delete(changes).where(
        changes.c.changed_at < before, changes.c.id < select(func.max(changes.c.id)).scalar_subquery()
    )
    with database.writing() as connection:
        return connection.execute(statement).rowcount


def renew(database: Database, now: datetime) -> bool:
    """Whether the journal is another server's: its numbers are ahead of this one's. It and its followers begin anew.

    So it is where a dump was loaded into a new server. Followers would wait until its numbers have come so far.
    """
    if database.is_sqlite:
        return False
    with database.writing() as connection:
        next_number = connection.execute(text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"))
        newest = connection.execute(select(func.max(changes.c.id))).scalar()
        if (newest or 0) < next_number.scalar_one():
            return False
        connection.execute(delete(changes))
        connection.execute(delete(positions))
        connection.execute(insert(positions).values(name=_RENEWED, position=now.timestamp()))
    return True


def renewed_at(database: Database) -> float:
    """When the journal has begun anew, so what is known of it from before does not hold; 0 where it never has."""
    if database.is_sqlite:
        return 0.0
    with database.reading() as connection:
        stored = select(positions.c.position).where(positions.c.name == _RENEWED)
        return float(connection.execute(stored).scalar() or 0.0)


def _first(found: list[Change], most_outcomes: int) -> Iterator[Change]:
    size = 0
    for change in found:
        size += len(change.outcome_ids)
        if size > most_outcomes and size > len(change.outcome_ids):
            return
        yield change


def _parsed(snapshot: str) -> Horizon:
    """PostgreSQL's `xmin:xmax:xip,…`."""
    _, end, running = snapshot.split(":")
    return Horizon(int(end), tuple(int(one) for one in running.split(",") if one))


def _unpacked(packed: bytes) -> list[UUID]:
    return [UUID(bytes=packed[at : at + 16]) for at in range(0, len(packed), 16)]
