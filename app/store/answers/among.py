"""Of some outcomes those that a question asks for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from sqlalchemy import select

from app.pace import in_turns
from app.store.asking.conditions import where
from app.store.asking.questions import Question
from app.store.database import Database

ROWS_AT_ONCE = 25  # which may be large, and are made objects of


def among(database: Database, question: Question, ids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
    """The rows by id; the question's order and limit do not matter."""
    table = question.records.table
    statement = select(*question.records.columns).where(table.c.id.in_(ids), *where(question))
    with database.reading() as connection:
        found = in_turns(connection.execute(statement).mappings().partitions(ROWS_AT_ONCE))
        return {row["id"]: dict(row) for rows in found for row in rows}
