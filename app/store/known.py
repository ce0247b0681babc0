"""Which deliveries are in the store."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import select

from app.store.database import Database
from app.store.schema import deliveries


def known_deliveries(database: Database, ids: Collection[UUID]) -> set[UUID]:
    """Those of the ids that are there."""
    with database.reading() as connection:
        return set(connection.execute(select(deliveries.c.id).where(deliveries.c.id.in_(ids))).scalars())
