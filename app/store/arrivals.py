"""Whether callbacks come in at the moment, as far as the store tells: for those who would give way to them."""

from __future__ import annotations

import math
import time

from sqlalchemy import func, select

from app.store.database import Database
from app.store.schema import changes

LOOK_SECONDS = 0.2
MANY = 50  # a second: fewer leave room for others

_ID_BYTES = 16


class Arrivals:
    """Looks now and then at what transactions have noted since the last look, the first time it is asked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last: int | None = None
        self._at = -math.inf
        self._many = False

    def are_many(self) -> bool:
        """Whether many outcomes were made or changed lately; by any process, on whichever machine."""
        passed = time.monotonic() - self._at
        if passed >= LOOK_SECONDS:
            self._last, count = self._look(self._last)
            self._many = count > MANY * passed
            self._at = time.monotonic()
        return self._many

    def _look(self, last: int | None) -> tuple[int | None, int]:
        """The newest transaction, and how many outcomes it and others behind the last one touched."""
        newest = func.max(changes.c.id)
        statement = select(newest, func.coalesce(func.sum(func.length(changes.c.outcome_ids)), 0))
        with self._database.reading() as connection:
            if last is None:
                return connection.execute(select(newest)).scalar(), 0
            found, size = connection.execute(statement.where(changes.c.id > last)).one()
            return found or last, int(size) // _ID_BYTES
