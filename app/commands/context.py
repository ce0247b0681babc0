"""The context manager that gives a command its settings and its store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.config import Settings, from_environment
from app.store.database import Database
from app.store.timeouts import PATIENT_LOCK_SECONDS


@contextmanager
def opened() -> Iterator[tuple[Settings, Database]]:
    settings = from_environment()
    database = patient_database(settings)
    try:
        yield settings, database
    finally:
        database.close()


def patient_database(settings: Settings) -> Database:
    """Return a command's store. It waits while others write, such as a migration or somebody's shell."""
    return Database(settings.database_url, lock_seconds=PATIENT_LOCK_SECONDS)
