"""Determines which schema the store has, and if this program can work with it.

Every process checks that at its start, so this module does not import the migration code (`migrating.py`), which
takes longer to load than most commands take to run.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select

from app.errors import SchemaOutdated
from app.store.database import Database

NEEDED = "0015"  # the newest migration

# Alembic's own table: https://alembic.sqlalchemy.org/en/latest/tutorial.html#running-our-first-migration
_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32)))


def check(database: Database) -> None:
    """Raises `SchemaOutdated` if the store's schema is not this program's."""
    with database.reading() as connection:
        version = current(connection)
    refuse_newer(version)
    if version != NEEDED:
        raise SchemaOutdated(
            f"the store's schema is {version or 'missing'}, needed is {NEEDED}; run: plum-outcomes migrate"
        )


def is_current(database: Database) -> bool:
    """True if the store's schema is this program's. Raises `StoreUnavailable`."""
    with database.reading() as connection:
        return current(connection) == NEEDED


def refuse_newer(version: str | None) -> None:
    """Raises `SchemaOutdated` if the schema belongs to a newer program."""
    if version is not None and version > NEEDED:
        raise SchemaOutdated(f"the store's schema {version} is of a newer program; start that, or restore a backup")


def current(connection: Connection) -> str | None:
    """Return the store's newest migration; None without a schema. Raises `SchemaOutdated` if there are several."""
    if not inspect(connection).has_table(_VERSION.name):
        return None
    versions = list(connection.execute(select(_VERSION.c.version_num)).scalars())
    if len(versions) > 1:
        raise SchemaOutdated(f"the store names several schemas, {', '.join(sorted(versions))}; restore a backup")
    return versions[0] if versions else None
