"""The context manager that gives a command its settings and its store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.config import Settings, from_environment
from app.store.database import Database


@contextmanager
def opened() -> Iterator[tuple[Settings, Database]]:
    settings = from_environment()
    database = Database(settings.database_url)
    try:
        yield settings, database
    finally:
        database.close()
