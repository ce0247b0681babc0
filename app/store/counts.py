"""How many records a question is about, whichever the page."""

from __future__ import annotations

from sqlalchemy import func, select

from app.store.conditions import where
from app.store.database import Database
from app.store.questions import Question


def count(database: Database, question: Question) -> int:
    """All of them, exactly. Raises `TooSlow`."""
    statement = select(func.count()).select_from(question.records.table).where(*where(question))
    with database.reading() as connection:
        return connection.execute(statement).scalar_one()
