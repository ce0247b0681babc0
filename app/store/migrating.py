"""Migrates the store's schema to the one that this program needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, exc, text

from app.errors import SchemaOutdated, StoreUnavailable
from app.store.database import Database, empty_wal, free_bytes
from app.store.schema_version import current, is_current, refuse_newer
from app.store.sqlite import CHECK_EVERY
from app.store.timeouts import PATIENT_LOCK_SECONDS

MIGRATING_SECONDS = 86_400.0  # for each statement, however many rows it changes
# Half of what is free, within these bounds, is left to deliveries. The commit still writes SQLite's cache of 2 MB.
LEAST_KEPT_BYTES, MOST_KEPT_BYTES = 4 << 20, 100 << 20

_LOCK = 0x506C756D  # any number that nothing else uses as an advisory lock


def migrate(database: Database, revision: str = "head") -> None:
    """Migrate the schema to `revision`, downwards if it is an earlier one. Concurrent migrations wait for each
    other, on SQLite as long as the database's `lock_seconds`. Raises `SchemaOutdated`, `StoreUnavailable`."""
    if revision == "head" and is_current(database):
        return  # without waiting for whoever writes: a service migrates before each start
    try:
        with database.writing(MIGRATING_SECONDS) as connection, _room_kept(database, connection):
            _migrate(connection, revision)
    except StoreUnavailable:
        empty_wal(database)  # what an undone migration wrote may fill the disk
        raise


def _migrate(connection: Connection, revision: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        # A table that somebody reads for hours must not stop all others meanwhile: they queue behind this lock.
        connection.execute(text(f"SET LOCAL lock_timeout = '{PATIENT_LOCK_SECONDS:g}s'"))
    version = current(connection)
    refuse_newer(version)
    config = _config(connection)
    script = ScriptDirectory.from_config(config)
    if version is not None and version not in {known.revision for known in script.walk_revisions()}:
        raise SchemaOutdated(f"the store's schema {version} is of another program; restore a backup")
    earlier = (
        {older.revision for older in script.iterate_revisions(version, "base")} - {version} if version else set()
    )
    (command.downgrade if revision == "base" or revision in earlier else command.upgrade)(config, revision)


@contextmanager
def _room_kept(database: Database, connection: Connection) -> Iterator[None]:
    """Stop the migration before it fills the disk of SQLite's file, since deliveries wait in the spool meanwhile.

    Raises `StoreUnavailable`. PostgreSQL cares for its disk by itself.
    """
    free = free_bytes(database)
    if free is None:
        yield
        return
    kept = max(LEAST_KEPT_BYTES, min(MOST_KEPT_BYTES, free // 2))
    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(lambda: (free_bytes(database) or 0) < kept, CHECK_EVERY)
    try:
        yield
    except exc.OperationalError as error:
        if str(error.orig) != "interrupted":
            raise
        raise StoreUnavailable(f"it would fill the disk of {database.where}, so it is undone; make room") from error
    finally:
        driver.set_progress_handler(None, 0)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
