"""How often each value of a field stands in the records asked about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from app.store.conditions import where
from app.store.database import Database
from app.store.questions import Question

MAX_VALUES = 100

Facet = tuple[Any, int]  # a value and its count


def facets(database: Database, question: Question, fields: Sequence[str]) -> dict[str, list[Facet]]:
    """For each field its values, most frequent first, then by value, null last. Raises `TooSlow`."""
    with database.reading() as connection:
        return {field: _facets(connection, question, field) for field in fields}


def _facets(connection: Connection, question: Question, field: str) -> list[Facet]:
    column = question.records.table.c[field]
    counted = (
        select(column, func.count())
        .where(*where(question))
        .group_by(column)
        .order_by(func.count().desc(), column.asc().nulls_last())
        .limit(MAX_VALUES)
    )
    return [(value, count) for value, count in connection.execute(counted)]
