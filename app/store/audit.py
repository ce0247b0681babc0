"""The audit log: entries are only ever added. Its questions are those of every record (`questions`, `pages`)."""

from __future__ import annotations

from sqlalchemy import insert

from app.model import AuditEntry
from app.store.database import Database
from app.store.schema import audit


def write(database: Database, entry: AuditEntry) -> None:
    """Durable when it returns. Raises `StoreUnavailable`, `StoreRefused`."""
    with database.writing() as connection:
        connection.execute(insert(audit).values(entry._asdict()))
