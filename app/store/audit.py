"""The audit log: entries are only added. It is queried like other records (`query`, `pagination`)."""

from __future__ import annotations

from sqlalchemy import insert

from app.model import AuditEntry
from app.store.database import Database
from app.store.schema import audit


def write(database: Database, entry: AuditEntry) -> None:
    """Add an entry; it is durable on return. Raises `StoreUnavailable`, `StoreRefused`."""
    with database.writing() as connection:
        connection.execute(insert(audit).values(entry._asdict()))
