"""Bringing the store's schema to the one that this program needs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.errors import SchemaOutdated
from app.store.database import Database
from app.store.schema_version import current, refuse_newer

MIGRATING_SECONDS = 86_400.0  # each statement, of however many rows

_LOCK = 0x506C756D  # any number that no one else locks


def migrate(database: Database, revision: str = "head") -> None:
    """Bring the schema to `revision`; down where it lies behind. Two at once wait for one another."""
    with database.writing(MIGRATING_SECONDS) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        here = current(connection)
        refuse_newer(here)
        config = _config(connection)
        script = ScriptDirectory.from_config(config)
        if here is not None and here not in {one.revision for one in script.walk_revisions()}:
            raise SchemaOutdated(f"the store's schema {here} is of another program; restore a backup")
        earlier = {one.revision for one in script.iterate_revisions(here, "base")} - {here} if here else set()
        (command.downgrade if revision == "base" or revision in earlier else command.upgrade)(config, revision)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
