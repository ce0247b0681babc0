"""Migrates the store's schema to the one that this program needs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.errors import SchemaOutdated
from app.store.database import Database
from app.store.schema_version import current, refuse_newer

MIGRATING_SECONDS = 86_400.0  # for each statement, however many rows it changes

_LOCK = 0x506C756D  # any number that nothing else uses as an advisory lock


def migrate(database: Database, revision: str = "head") -> None:
    """Migrate the schema to `revision`, downwards if it is an earlier one. Concurrent migrations wait for each
    other."""
    with database.writing(MIGRATING_SECONDS) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
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
