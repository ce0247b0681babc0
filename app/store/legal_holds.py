"""Legal holds, which protect records from being pruned or erased."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Table, delete, select

from app.errors import NotFound
from app.identity import start_id
from app.model import HoldKind
from app.store.bulk import insert_rows
from app.store.database import Database
from app.store.schema import holds, integrations, outcomes

_OR_REPLACE_REASON = "ON CONFLICT (kind, subject) DO UPDATE SET reason = excluded.reason RETURNING kind"


@dataclass(frozen=True, slots=True)
class Held:
    """What is held: integrations by name, outcomes by id, and the starts of those calls by `identity.start_id`."""

    integrations: Collection[str]
    outcomes: Collection[UUID]
    starts: Collection[UUID]

    def has(self, integration: str, outcome_id: UUID | None = None, start_of: UUID | None = None) -> bool:
        return integration in self.integrations or outcome_id in self.outcomes or start_of in self.starts


def held(connection: Connection) -> Held:
    rows = connection.execute(select(holds.c.kind, holds.c.subject)).all()
    calls = {UUID(row.subject) for row in rows if row.kind == HoldKind.CALL}
    held_outcomes = connection.execute(select(outcomes).where(outcomes.c.id.in_(calls))).all() if calls else []
    return Held({row.subject for row in rows if row.kind == HoldKind.INTEGRATION}, calls, starts_of(held_outcomes))


def lock_holds(connection: Connection) -> None:
    """Let new holds wait until this transaction, which removes records, has ended. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("LOCK TABLE holds IN SHARE MODE")


def held_among(connection: Connection, table: Table, ids: Collection[UUID]) -> set[UUID]:
    """Return the ids of those rows that a hold protects now."""
    holding = held(connection)
    columns = [column for column in table.c if column.name in ("id", "integration", "outcome_id", "start_of")]
    rows = connection.execute(select(*columns).where(table.c.id.in_(ids))).mappings()
    return {
        row["id"]
        for row in rows
        if holding.has(row["integration"], row.get("outcome_id", row["id"]), row.get("start_of"))
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
