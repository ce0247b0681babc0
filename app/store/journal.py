"""The journal: which outcomes are new or changed, in an order that misses none.

Each transaction that changes outcomes adds one row. On PostgreSQL its number is the transaction's number; on SQLite,
where writers queue, it is the next free number, and at least the time in milliseconds: a restored store then gives no
number a second time, which a follower of the lost history would take for seen.

PostgreSQL assigns numbers when a transaction begins, so reading "all above the last one seen" would miss a slow
transaction. A `Horizon` therefore also names the running transactions; the changes between two horizons are fixed,
and reading them waits for no open transaction.
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
PRUNED_ROWS = 1000
PAGE_ROWS = 32
PAGE_OUTCOMES = 20  # outcomes may be large; a row with more outcomes is a page of its own

_RENEWED = "renewed"
_NOTE_SQLITE = (
    "INSERT INTO changes (id, changed_at, outcome_ids) VALUES (max((SELECT coalesce(max(id), 0) + 1 FROM changes), "
    "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)), strftime('%Y-%m-%d %H:%M:%f000', 'now'), ?)"
)
_NOTE_POSTGRESQL = (
    "INSERT INTO changes (id, changed_at, outcome_ids) VALUES (pg_current_xact_id()::text::bigint, now(), %s) "
    "ON CONFLICT (id) DO UPDATE SET outcome_ids = changes.outcome_ids || excluded.outcome_ids"
)


class Horizon(NamedTuple):
    """The end of the journal at one moment: all numbers below `end` are visible, except those of running
    transactions."""

    end: int
    running: tuple[int, ...] = ()


class Span(NamedTuple):
    """The changes between two horizons, starting after the first `sent` outcomes of the change `id`."""

    seen: Horizon
    upto: Horizon
    id: int = 0
    sent: int = 0


class Change(NamedTuple):
    id: int
    changed_at: datetime
    outcome_ids: list[UUID]


class Mark(NamedTuple):
    """A change's number and time, which distinguish it from the change with this number in another journal."""

    id: int
    changed_at: datetime


def note(connection: Connection, outcome_ids: Iterable[UUID]) -> None:
    """Record, within a transaction, the outcomes that it creates, changes or removes."""
    packed = b"".join(key.bytes for key in outcome_ids)
    if packed:
        sqlite = connection.dialect.name == "sqlite"
        connection.exec_driver_sql(_NOTE_SQLITE if sqlite else _NOTE_POSTGRESQL, (packed,))


def horizon(database: Database) -> Horizon:
    """Return the journal's current horizon."""
    with database.reading() as connection:
        if database.is_sqlite:
            return Horizon((connection.execute(select(func.max(changes.c.id))).scalar() or 0) + 1)
        return _parse_horizon(connection.execute(text("SELECT pg_current_snapshot()::text")).scalar_one())


def wait_for_running(database: Database) -> None:
    """Wait up to some seconds until the running transactions have ended, so that later queries see their changes."""
    if database.is_sqlite:
        return  # writers queue
    with database.writing() as connection:
        # A snapshot lists only transactions older than the newest that has ended. This one is newer than all others.
        connection.execute(text("SELECT pg_current_xact_id()"))
    running, deadline = set(horizon(database).running), time.monotonic() + PATIENCE_SECONDS
    while running and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        running &= set(horizon(database).running)


def page(
    database: Database, span: Span, most_rows: int = PAGE_ROWS, most_outcomes: int = PAGE_OUTCOMES
) -> list[Change]:
    """Return the first changes of the span, limited in rows and outcomes; an empty list at the span's end."""
    numbers = changes.c.id
    is_new = or_(numbers >= span.seen.end, numbers.in_(span.seen.running))
    start = max(span.id, min((span.seen.end, *span.seen.running)))  # else all that was seen would be read again
    statement = (
        select(numbers, changes.c.changed_at, changes.c.outcome_ids)
        .where(numbers >= start, is_new, numbers < span.upto.end, numbers.not_in(span.upto.running))
        .order_by(numbers)
        .limit(most_rows)
    )
    with database.reading() as connection:
        rows = connection.execute(statement).all()
    page_changes = [Change(row.id, row.changed_at, _unpack(row.outcome_ids)) for row in rows]
    if page_changes and page_changes[0].id == span.id:
        page_changes[0].outcome_ids[: span.sent] = []
    return list(_limited([change for change in page_changes if change.outcome_ids], most_outcomes))


def last(database: Database, seen: Horizon) -> Mark | None:
    """Return the newest change that was visible at this horizon; None if none is left."""
    numbers = changes.c.id
    statement = select(numbers, changes.c.changed_at).where(numbers < seen.end, numbers.not_in(seen.running))
    with database.reading() as connection:
        row = connection.execute(statement.order_by(numbers.desc()).limit(1)).first()
    return Mark(row.id, row.changed_at) if row else None


def has(database: Database, mark: Mark) -> bool:
    """True if the journal still holds this change, and so all changes after it."""
    with database.reading() as connection:
        stored = select(changes.c.changed_at).where(changes.c.id == mark.id)
        return connection.execute(stored).scalar() == mark.changed_at


def prune(database: Database, before: datetime) -> int:
    """Delete some older changes, the oldest first; return their number, 0 if none of the oldest is older. The newest
    stays: SQLite continues its numbering from it, and followers recognise it.

    Times have no index, and writers wait for each transaction. So it looks at few of the oldest numbers.
    """
    newest = select(func.max(changes.c.id)).scalar_subquery()
    oldest = select(changes.c.id).where(changes.c.id < newest).order_by(changes.c.id).limit(PRUNED_ROWS)
    with database.writing() as connection:
        statement = delete(changes).where(changes.c.id.in_(oldest), changes.c.changed_at < before)
        return connection.execute(statement).rowcount


def renew(database: Database, now: datetime) -> bool:
    """Restart the journal if its numbers are ahead of the server's, and return True; followers then start again.

    This happens after a dump was loaded into a new server. Followers would otherwise wait until the server's numbers
    have caught up.
    """
    if database.is_sqlite:
        return False
    with database.writing() as connection:
        # In this order, or a change that is committed between the two would look like one of another server.
        newest = connection.execute(select(func.max(changes.c.id))).scalar()
        next_number = connection.execute(text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"))
        if (newest or 0) < next_number.scalar_one():
            return False
        connection.execute(delete(changes))
        connection.execute(delete(positions))
        connection.execute(insert(positions).values(name=_RENEWED, position=now.timestamp()))
    return True


def renewed_at(database: Database) -> float:
    """Return when the journal was last restarted, which invalidates older knowledge of it; 0 if never."""
    if database.is_sqlite:
        return 0.0
    with database.reading() as connection:
        stored = select(positions.c.position).where(positions.c.name == _RENEWED)
        return float(connection.execute(stored).scalar() or 0.0)


def _limited(changes_found: list[Change], most_outcomes: int) -> Iterator[Change]:
    size = 0
    for change in changes_found:
        size += len(change.outcome_ids)
        if size > most_outcomes and size > len(change.outcome_ids):
            return
        yield change


def _parse_horizon(snapshot: str) -> Horizon:
    """Parse PostgreSQL's `xmin:xmax:xip,…`."""
    _, end, running = snapshot.split(":")
    return Horizon(int(end), tuple(int(number) for number in running.split(",") if number))


def _unpack(packed: bytes) -> list[UUID]:
    return [UUID(bytes=packed[at : at + 16]) for at in range(0, len(packed), 16)]
