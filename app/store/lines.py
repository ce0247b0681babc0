"""All rows of a question as lines of CSV, formatted by the database: in Python they are only passed on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Select, select

from app.store import cells
from app.store.conditions import where
from app.store.database import Database
from app.store.pages import ordering
from app.store.questions import Question

BATCH_ROWS = 2000
# Compiling such a statement takes longer than it saves, and an export is to leave the other processor alone.
_MODEST = "SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0"


class Lines(NamedTuple):
    rows: int
    text: bytes


def lines(
    database: Database, question: Question, fields: Sequence[str], raw: bool, seconds: float
) -> Iterator[Lines]:
    """In batches, as they were at one moment. At least two fields: a lone empty cell needs quotes."""
    columns = [question.records.table.c[name] for name in fields]
    with database.reading(seconds) as connection:
        yield from (_fetched if database.is_sqlite else _copied)(connection, question, columns, raw)


def _fetched(connection: Connection, question: Question, columns: list[Column[Any]], raw: bool) -> Iterator[Lines]:
    cursor = connection.execute(_rows(question, [cells.line(columns, raw)])).cursor
    assert cursor is not None  # noqa: S101  of a SELECT
    while found := cursor.fetchmany(BATCH_ROWS):
        yield Lines(len(found), cells.unmarked(b"".join([line for (line,) in found])))


def _copied(connection: Connection, question: Question, columns: list[Column[Any]], raw: bool) -> Iterator[Lines]:
    """PostgreSQL writes CSV by itself, each line ended by a mere LF."""
    connection.exec_driver_sql(_MODEST)
    statement = _rows(question, cells.cells(columns, raw))
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    driver: Any = connection.connection.driver_connection
    command = f"COPY ({compiled}) TO STDOUT (FORMAT csv)"
    with driver.cursor() as cursor, cursor.copy(command, compiled.params) as copy:
        found = iter(copy)
        while batch := [bytes(line)[:-1] for line in islice(found, BATCH_ROWS)]:
            yield Lines(len(batch), b"\r\n".join([*batch, b""]))


def _rows(question: Question, shown: Sequence[Any]) -> Select[Any]:
    table = question.records.table
    return select(*shown).select_from(table).where(*where(question)).order_by(*ordering(question))
