"""Outcomes as CSV rows that the database formats: the fastest way into another engine.

A cell is written as an SQL literal: a text in single quotes, null as the word NULL. SQLite formats a whole row of
such cells in one call.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, Integer, Select, Text, Uuid, and_, func, literal_column, or_, select

from app.store.database import Database
from app.store.query.literals import bound
from app.store.query.question import Records
from app.store.schema import outcomes
from app.store.types import UtcDateTime

# The columns of the copy: all that records show, and the first delivery.
COLUMNS = [*Records.OUTCOMES.columns, outcomes.c.first_delivery_id]
SECONDS = 60.0  # for one batch
MAX_CHARACTERS = 1 << 24  # of a batch, which is held in memory
ROWS_AT_ONCE = 25  # they are in memory together, and may be large

QUOTE, NULL = "'", "NULL"

_LITERAL = "%Q"  # of SQLite's printf: https://sqlite.org/printf.html
# PostgreSQL's own quote_literal writes texts with a backslash in a form that is no CSV.
_QUOTED = "coalesce('''' || replace({0}, '''', '''''') || '''', 'NULL')"
_AS_IT_IS = "coalesce(CAST({0} AS TEXT), 'NULL')"
_UTC = "coalesce(CAST(timezone('UTC', {0}) AS TEXT), 'NULL')"
_PLAIN = (Integer, Boolean, Uuid)


class CsvRow(NamedTuple):
    """One outcome. `extra`, `problems` and `metadata` are None if they are empty, as they are for most calls."""

    id: UUID
    ended_at: datetime
    text: str
    extra: str | None
    problems: str | None
    metadata: str | None


def csv_rows(database: Database, ids: Collection[UUID]) -> tuple[list[CsvRow], list[UUID]]:
    """Return the rows of these outcomes, fewer if they are large, and the ids that were not read.

    Ids without an outcome are ignored.
    """
    key = outcomes.c.id
    rows = _fetched(database, _select(database).where(key.in_(ids)).order_by(key), MAX_CHARACTERS)
    is_cut = _size(rows) > MAX_CHARACTERS
    return rows, sorted(one for one in ids if one > rows[-1].id) if is_cut else []


def csv_rows_behind(database: Database, edge: tuple[datetime, UUID] | None, limit: int) -> tuple[list[CsvRow], bool]:
    """Return the next `limit` rows by end time, fewer if they are large, and whether they are the last ones.

    `edge` is the end time and the id of the outcome before them.
    """
    moment, key = outcomes.c.ended_at, outcomes.c.id
    statement = _select(database).order_by(moment, key.desc()).limit(limit)
    if edge:
        at, last = bound(moment, edge[0]), bound(key, edge[1])
        statement = statement.where(moment >= at, or_(moment > at, and_(moment == at, key < last)))
    rows = _fetched(database, statement, MAX_CHARACTERS)
    return rows, len(rows) < limit and _size(rows) <= MAX_CHARACTERS


def _size(rows: list[CsvRow]) -> int:
    return sum(len(row.text) for row in rows)


def _fetched(database: Database, statement: Select[Any], most: int) -> list[CsvRow]:
    """Return the rows, or stop after the row that brings the total above `most` characters."""
    rows: list[CsvRow] = []
    characters = 0
    with (
        database.reading(SECONDS, alone=True) as connection,
        connection.execution_options(yield_per=ROWS_AT_ONCE).execute(statement) as result,
    ):
        for row in result:
            rows.append(CsvRow(*row))
            characters += len(rows[-1].text)
            if characters > most:
                break
    return rows


def _select(database: Database) -> Select[Any]:
    return select(
        outcomes.c.id,
        outcomes.c.ended_at,
        _text(database.is_sqlite),
        _unless("{}", "extra"),
        _unless("[]", "problems"),
        _unless("{}", "metadata"),
    )


@cache
def _text(is_sqlite: bool) -> ColumnElement[str]:
    if is_sqlite:
        return func.printf(literal_column(f"'{','.join([_LITERAL] * len(COLUMNS))}'"), *COLUMNS, type_=Text)
    cells = [_template(column.type).format(f"outcomes.{column.name}") for column in COLUMNS]
    return literal_column(f"concat_ws(',', {', '.join(cells)})")


def _template(type_: Any) -> str:
    if isinstance(type_, UtcDateTime):
        return _UTC
    return _AS_IT_IS if isinstance(type_, _PLAIN) else _QUOTED


def _unless(empty: str, name: str) -> ColumnElement[str | None]:
    return func.nullif(literal_column(f"outcomes.{name}"), empty)
