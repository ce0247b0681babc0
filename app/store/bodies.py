"""The exact bytes of deliveries."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import select

from app.store.database import Database
from app.store.schema import deliveries


def bodies(database: Database, ids: Collection[UUID]) -> dict[UUID, bytes]:
    """By the deliveries' ids."""
    statement = select(deliveries.c.id, deliveries.c.body).where(deliveries.c.id.in_(ids))
    with database.reading() as connection:
        return {row.id: row.body for row in connection.execute(statement)}
