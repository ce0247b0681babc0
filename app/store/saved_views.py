"""Lists of calls that analysts have saved under a name, for all who may read."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, func, insert, select

from app.errors import Contradicts, NotFound
from app.store.database import Database
from app.store.failures import unless_exists
from app.store.schema import saved_views

MOST = 50


def add_view(database: Database, name: str, asked: str, made_by: str, now: datetime) -> None:
    """Save a view; `asked` is the list's query string. Raises `Exists`, `Contradicts`."""
    taken = f"a view named {name} is there already; choose another name, or remove that one first"
    with database.writing() as connection, unless_exists(taken):
        if (connection.execute(select(func.count()).select_from(saved_views)).scalar() or 0) >= MOST:
            raise Contradicts(f"{MOST} views are saved already; remove some first")
        connection.execute(insert(saved_views).values(name=name, asked=asked, made_by=made_by, made_at=now))


def remove_view(database: Database, name: str, made_by: str | None) -> None:
    """Remove a view that this token created; if `made_by` is None, of any token. Raises `NotFound`."""
    condition = saved_views.c.name == name
    if made_by is not None:
        condition &= saved_views.c.made_by == made_by
    with database.writing() as connection:
        if connection.execute(delete(saved_views).where(condition)).rowcount == 0:
            raise NotFound(f"no view of yours is named {name}; others are removed by who made them, or by an admin")


def list_views(database: Database) -> list[dict[str, str]]:
    """Return all views, sorted by name."""
    with database.reading() as connection:
        rows = connection.execute(select(saved_views).order_by(saved_views.c.name)).mappings()
        return [dict(row) for row in rows]
