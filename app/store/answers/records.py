"""Single records by their ids."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select

from app.errors import NotFound
from app.model import Delivery
from app.store.asking.questions import Records
from app.store.database import Database
from app.store.rows import delivery_from_row


def get_record(database: Database, records: Records, key: UUID) -> dict[str, Any]:
    """One record's row. Raises `NotFound`."""
    return _one(database, records, key, records.columns)


def get_delivery(database: Database, key: UUID) -> Delivery:
    """The delivery itself, body and all. Raises `NotFound`."""
    return delivery_from_row(_one(database, Records.DELIVERIES, key, Records.DELIVERIES.table.c))


def _one(database: Database, records: Records, key: UUID, columns: Any) -> dict[str, Any]:
    with database.reading() as connection:
        row = connection.execute(select(*columns).where(records.table.c.id == key)).mappings().first()
    if row is None:
        raise NotFound(f"there is no {records.singular} {key}")
    return dict(row)
