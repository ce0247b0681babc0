"""Legal holds, which protect records from being pruned or erased."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Table, delete, select, true

from app.errors import NotFound
from app.identity import start_id
from app.model import HoldKind
from app.store.bulk import insert_rows
from app.store.database import Database
from app.store.schema import holds, integrations, outcomes

_OR_REPLACE_REASON = "ON CONFLICT (kind, subject) DO UPDATE SET reason = excluded.reason RETURNING kind"

AT_ONCE = 1000  # outcomes of one query: parameters are limited
IDENTIFYING_STARTS = [
    outcomes.c[name] for name in ("integration", "call_id", "message_reference", "phone_number", "phone_number_raw")
]


@dataclass(frozen=True, slots=True)
class Held:
    """What is held: integrations by name, outcomes by id, and the starts of those calls by `identity.start_id`."""

    integrations: Collection[str]
    outcomes: Collection[UUID]
    starts: Collection[UUID]

    def has(self, integration: str, outcome_id: UUID | None = None, start_of: UUID | None = None) -> bool:
        return integration in self.integrations or outcome_id in self.outcomes or start_of in self.starts


def held(connection: Connection, rows: Sequence[Row[Any]] | None = None) -> Held:
    """Return what is held, or what of it may hold these rows. Whole campaigns may be held, call by call."""
    is_meant = true() if rows is None else holds.c.subject.in_(_subjects_of(rows))
    is_kind = holds.c.kind.in_(list(HoldKind))  # the key begins with it
    found = connection.execute(select(holds.c.kind, holds.c.subject).where(is_kind, is_meant)).all()
    names = {row.subject for row in found if row.kind == HoldKind.INTEGRATION}
    calls = {UUID(row.subject) for row in found if row.kind == HoldKind.CALL}
    if rows is None:
        return Held(names, calls, _starts(connection, calls))
    # A start does not tell its call's outcome, only the outcome tells the start.
    has_starts = any(getattr(row, "start_of", None) for row in rows)
    return Held(names, calls, held(connection).starts if has_starts else ())


def _subjects_of(rows: Sequence[Row[Any]]) -> set[str]:
    calls = {getattr(row, "outcome_id", row.id) for row in rows} - {None}
    return {row.integration for row in rows} | set(map(str, calls))


def _starts(connection: Connection, calls: Collection[UUID]) -> set[UUID]:
    ordered, starts = sorted(calls), set[UUID]()
    for at in range(0, len(ordered), AT_ONCE):
        is_call = outcomes.c.id.in_(ordered[at : at + AT_ONCE])
        starts |= starts_of(connection.execute(select(*IDENTIFYING_STARTS).where(is_call)).all())
    return starts


def lock_holds(connection: Connection) -> None:
    """Let new holds wait until this transaction, which removes records, has ended. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("LOCK TABLE holds IN SHARE MODE")


def held_among(connection: Connection, table: Table, ids: Collection[UUID]) -> set[UUID]:
    """Return the ids of those rows that a hold protects now."""
    columns = [column for column in table.c if column.name in ("id", "integration", "outcome_id", "start_of")]
    rows = connection.execute(select(*columns).where(table.c.id.in_(ids))).all()
    holding = held(connection, rows)
    return {
        row.id
        for row in rows
        if holding.has(row.integration, getattr(row, "outcome_id", row.id), getattr(row, "start_of", None))
    }


def starts_of(rows: Iterable[Row[Any]]) -> set[UUID]:
    """Return the start ids of these outcomes' calls."""
    starts = (
        start_id(row.integration, row.call_id, row.message_reference, row.phone_number or row.phone_number_raw)
        for row in rows
    )
    return {start for start in starts if start}


def add_hold(database: Database, kind: HoldKind, subject: str, reason: str, now: datetime) -> None:
    """Add a hold, or replace the reason of an existing one. Raises `NotFound` if the subject does not exist."""
    with database.writing() as connection:
        is_subject = (
            integrations.c.name == subject if kind is HoldKind.INTEGRATION else outcomes.c.id == UUID(subject)
        )
        insert_rows(connection, holds, [(kind, subject, reason, now)], _OR_REPLACE_REASON)
        # After the insert, which waits for transactions that remove records.
        if connection.execute(select(is_subject).where(is_subject)).first() is None:
            raise NotFound(f"there is no {kind} {subject}")


def remove_hold(database: Database, kind: HoldKind, subject: str) -> None:
    """Remove a hold. Raises `NotFound`."""
    with database.writing() as connection:
        is_hold = (holds.c.kind == kind) & (holds.c.subject == subject)
        if connection.execute(delete(holds).where(is_hold)).rowcount == 0:
            raise NotFound(f"nothing holds {kind} {subject}; see: hold list")


def list_holds(database: Database) -> list[dict[str, object]]:
    """Return all holds, the oldest first."""
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(select(holds).order_by(holds.c.made_at)).mappings()]
