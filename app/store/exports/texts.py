"""All rows of a question as texts, column by column: the way of exports, where a value that becomes an object first,
and is made text again, costs ten times as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Select, select

from app.store.answers.pages import ordering
from app.store.asking.conditions import where
from app.store.asking.questions import Question
from app.store.database import Database
from app.store.exports.batches import batches
from app.store.exports.shown import Texts, is_escaped, selected, shown_by_postgresql, shown_by_sqlite

BATCH_ROWS = 1000


def texts(database: Database, question: Question, fields: Sequence[str], seconds: float) -> Iterator[list[Texts]]:
    """In batches, as they were at one moment: for each field the texts of its values, null being None."""
    columns = [question.records.table.c[name] for name in fields]
    with database.reading(seconds, alone=True) as connection:
        yield from (_fetched if database.is_sqlite else _copied)(connection, question, columns)


def _fetched(connection: Connection, question: Question, columns: list[Column[Any]]) -> Iterator[list[Texts]]:
    cursor: Any = connection.execute(_rows(question, columns, "sqlite")).cursor
    for batch in batches(cursor, BATCH_ROWS, _size):
        found = zip(*batch, strict=True)
        yield [shown_by_sqlite(column, texts) for column, texts in zip(columns, found, strict=True)]


def _size(row: Sequence[str | bytes | None]) -> int:
    return sum(map(len, filter(None, row)))


def _copied(connection: Connection, question: Question, columns: list[Column[Any]]) -> Iterator[list[Texts]]:
    """By COPY in its text format: tabs and ends of lines within values are escaped, so rows can just be split."""
    statement = _rows(question, columns, "postgresql")
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    driver: Any = connection.connection.driver_connection
    width = len(columns)
    with driver.cursor() as cursor, cursor.copy(f"COPY ({compiled}) TO STDOUT", compiled.params) as copy:
        for batch in batches(copy, BATCH_ROWS, len):
            copied = str(b"".join(batch), "utf-8")
            escaped, values = is_escaped(copied), copied[:-1].replace("\n", "\t").split("\t")
            yield [shown_by_postgresql(column, values[at::width], escaped) for at, column in enumerate(columns)]


def _rows(question: Question, columns: Sequence[Column[Any]], dialect: str) -> Select[Any]:
    asked = [selected(column, dialect) for column in columns]
    return select(*asked).select_from(question.records.table).where(*where(question)).order_by(*ordering(question))
