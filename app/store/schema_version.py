"""Which schema the store has, and whether this program can work with it.

Every process asks that when it starts, so nothing here needs what migrates (`migrating.py`), which takes longer to
load than most commands run.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select

from app.errors import SchemaOutdated
from app.store.database import Database

NEEDED = "0014"  # the newest migration

# Alembic's own table: https://alembic.sqlalchemy.org/en/latest/tutorial.html#running-our-first-migration
_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32)))


def check(database: Database) -> None:
    """Raises `SchemaOutdated` where the store's schema is not this program's."""
    with database.reading() as connection:
        here = current(connection)
    refuse_newer(here)
    if here != NEEDED:
        raise SchemaOutdated(
            f"the store's schema is {here or 'missing'}, needed is {NEEDED}; run: plum-outcomes migrate"
        )


def refuse_newer(here: str | None) -> None:
    """Raises `SchemaOutdated` for the schema of a newer program."""
    if here is not None and here > NEEDED:
        raise SchemaOutdated(f"the store's schema {here} is of a newer program; start that, or restore a backup")


def current(connection: Connection) -> str | None:
    """The migration at which the store's schema is; None where it has none. Raises `SchemaOutdated` for several."""
    if not inspect(connection).has_table(_VERSION.name):
        return None
    found = list(connection.execute(select(_VERSION.c.version_num)).scalars())
    if len(found) > 1:
        raise SchemaOutdated(f"the store names several schemas, {', '.join(sorted(found))}; restore a backup")
    return found[0] if found else None
