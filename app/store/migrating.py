"""Migrates the store's schema to the one that this program needs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.errors import SchemaOutdated
from app.store.database import Database
from app.store.schema_version import current, is_current, refuse_newer
from app.store.timeouts import PATIENT_LOCK_SECONDS

MIGRATING_SECONDS = 86_400.0  # for each statement, however many rows it changes

_LOCK = 0x506C756D  # any number that nothing else uses as an advisory lock


def migrate(database: Database, revision: str = "head") -> None:
    """Migrate the schema to `revision`, downwards if it is an earlier one. Concurrent migrations wait for each
    other, on SQLite as long as the database's `lock_seconds`. Raises `SchemaOutdated`, `StoreUnavailable`."""
    if revision == "head" and is_current(database):
        return  # without waiting for whoever writes: a service migrates before each start
    with database.writing(MIGRATING_SECONDS) as connection:
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


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
