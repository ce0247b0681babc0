"""How often each value of a field stands in the records asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from app.store.asking.conditions import where
from app.store.asking.questions import Question
from app.store.database import Database
from app.store.deadline import STATEMENT_SECONDS, Deadline
from app.store.rollups.adding import Wanted
from app.store.rollups.covering import WORDS
from app.store.rollups.rolled import grouped

MAX_VALUES = 100

Facet = tuple[Any, int]  # a value and its count


def facets(database: Database, question: Question, fields: Sequence[str]) -> dict[str, list[Facet]]:
    """For each field its values, most frequent first, then by value, null last. Raises `TooSlow`."""
    deadline = Deadline(STATEMENT_SECONDS)
    with database.reading(at_one_moment=True) as connection:
        found = _rolled(connection, question, [field for field in fields if field in WORDS])
        for field in fields:
            if field not in found:
                deadline.check()
                found[field] = _facets(connection, question, field)
    return {field: found[field] for field in fields}


def _rolled(connection: Connection, question: Question, fields: Sequence[str]) -> dict[str, list[Facet]]:
    """Of these fields, where roll-ups cover the question."""
    groups = grouped(connection, question, Wanted(fields)) if fields else None
    if groups is None:
        return {}
    counts: dict[str, Counter[str | None]] = {field: Counter() for field in fields}
    for (_, values), tally in groups.items():
        for field, value in zip(fields, values, strict=True):
            counts[field][value] += tally.count
    return {field: sorted(counted.items(), key=_rank)[:MAX_VALUES] for field, counted in counts.items()}


def _rank(facet: Facet) -> tuple[int, bool, Any]:
    value, count = facet
    return -count, value is None, value


def _facets(connection: Connection, question: Question, field: str) -> list[Facet]:
    column = question.records.table.c[field]
    counted = (
        select(column, func.count())
        .where(*where(question))
        .group_by(column)
        .order_by(func.count().desc(), column.asc().nulls_last())
        .limit(MAX_VALUES)
    )
    return [(value, count) for value, count in connection.execute(counted).all()]
