"""Legal holds: what must not be pruned or erased while they stand."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, delete, insert, select, update

from app.errors import NotFound
from app.identity import start_id
from app.model import HoldKind
from app.store.database import Database
from app.store.schema import holds, integrations, outcomes


@dataclass(frozen=True, slots=True)
class Held:
    """What is held: integrations by name, outcomes by id, and the starts of those calls by `identity.start_id`."""

    integrations: Collection[str]
    outcomes: Collection[UUID]
    starts: Collection[UUID | None]

    def has(self, integration: str, outcome_id: UUID | None = None, start_of: UUID | None = None) -> bool:
        return integration in self.integrations or outcome_id in self.outcomes or start_of in self.starts


def held(connection: Connection) -> Held:
    rows = connection.execute(select(holds.c.kind, holds.c.subject)).all()
    calls = {UUID(row.subject) for row in rows if row.kind == HoldKind.CALL}
    named = connection.execute(select(outcomes).where(outcomes.c.id.in_(calls))).all() if calls else []
    starts = {
        start_id(row.integration, row.call_id, row.message_reference, row.phone_number or row.phone_number_raw)
        for row in named
        if row.call_id is not None
    }
    return Held({row.subject for row in rows if row.kind == HoldKind.INTEGRATION}, calls, starts)


def add_hold(database: Database, kind: HoldKind, subject: str, reason: str, now: datetime) -> None:
    """One that stands already takes this reason. Raises `NotFound` where there is no such thing."""
    with database.writing() as connection:
        known = integrations.c.name == subject if kind is HoldKind.INTEGRATION else outcomes.c.id == UUID(subject)
        if connection.execute(select(known).where(known)).first() is None:
            raise NotFound(f"there is no {kind} {subject}")
        mine = (holds.c.kind == kind) & (holds.c.subject == subject)
        if connection.execute(update(holds).where(mine).values(reason=reason)).rowcount == 0:
            connection.execute(insert(holds).values(kind=kind, subject=subject, reason=reason, made_at=now))


def remove_hold(database: Database, kind: HoldKind, subject: str) -> None:
    """Raises `NotFound`."""
    with database.writing() as connection:
        mine = (holds.c.kind == kind) & (holds.c.subject == subject)
        if connection.execute(delete(holds).where(mine)).rowcount == 0:
            raise NotFound(f"nothing holds {kind} {subject}; see: hold list")


def list_holds(database: Database) -> list[dict[str, object]]:
    """The oldest first."""
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(select(holds).order_by(holds.c.made_at)).mappings()]
