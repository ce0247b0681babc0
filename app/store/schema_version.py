"""Which schema the store has, and bringing it to the one that this program needs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.errors import SchemaOutdated
from app.store.database import Database

MIGRATING_SECONDS = 86_400.0  # each statement, of however many rows

_LOCK = 0x506C756D  # any number that no one else locks


def migrate(database: Database, revision: str = "head") -> None:
    """Bring the schema to `revision`; down where it lies behind. Two at once wait for one another."""
    with database.writing(MIGRATING_SECONDS) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config = _config(connection)
        script = _script()
        here = _current(connection)
        _refuse_newer(script, here)
        earlier = {one.revision for one in script.iterate_revisions(here, "base")} - {here} if here else set()
        (command.downgrade if revision == "base" or revision in earlier else command.upgrade)(config, revision)


def check(database: Database) -> None:
    """Raises `SchemaOutdated` where the store's schema is not this program's."""
    with database.reading() as connection:
        here = _current(connection)
    script = _script()
    _refuse_newer(script, here)
    wanted = script.get_current_head()
    if here != wanted:
        raise SchemaOutdated(
            f"the store's schema is {here or 'missing'}, needed is {wanted}; run: plum-outcomes migrate"
        )


def _refuse_newer(script: ScriptDirectory, here: str | None) -> None:
    known = {one.revision for one in script.walk_revisions()}
    if here is not None and here not in known:
        raise SchemaOutdated(f"the store's schema {here} is of a newer program; start that, or restore a backup")


@cache
def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
