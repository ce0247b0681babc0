"""All rows of a question as lines of CSV, formatted by the database: in Python they are only passed on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Select, select

from app.exports.columns import Mask
from app.store.answers.pages import ordering
from app.store.asking.conditions import where
from app.store.asking.questions import Question
from app.store.database import Database
from app.store.exports import cells, finishing
from app.store.exports.batches import batches

BATCH_ROWS = 2000


class Lines(NamedTuple):
    rows: int
    text: bytes


def lines(
    database: Database,
    question: Question,
    fields: Sequence[str],
    raw: bool,
    masks: Mapping[str, Mask],
    seconds: float,
) -> Iterator[Lines]:
    """In batches, as they were at one moment. At least two fields: a lone empty cell needs quotes.

    `masks` are of those fields in which phones are to be hidden.
    """
    columns = [question.records.table.c[name] for name in fields]
    with database.reading(seconds, alone=True) as connection:
        yield from (_fetched if database.is_sqlite else _copied)(connection, question, columns, raw, masks)


def _fetched(
    connection: Connection, question: Question, columns: list[Column[Any]], raw: bool, masks: Mapping[str, Mask]
) -> Iterator[Lines]:
    pieces = finishing.pieces(columns, masks, raw)
    cursor: Any = connection.execute(_rows(question, [cells.line(columns, raw, masks)])).cursor
    for batch in batches((line for (line,) in cursor), BATCH_ROWS, len):
        yield Lines(len(batch), finishing.unmarked(b"".join(batch), pieces))


def _copied(
    connection: Connection, question: Question, columns: list[Column[Any]], raw: bool, masks: Mapping[str, Mask]
) -> Iterator[Lines]:
    """PostgreSQL writes CSV by itself, each line ended by a mere LF."""
    finishes = finishing.finishes(columns, masks, raw)
    flag = [cells.flag([columns[at] for at in finishes])] if finishes else []
    statement = _rows(question, [*flag, *cells.cells(columns, raw, masks)])
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    driver: Any = connection.connection.driver_connection
    command = f"COPY ({compiled}) TO STDOUT (FORMAT csv)"
    with driver.cursor() as cursor, cursor.copy(command, compiled.params) as copy:
        for batch in batches((bytes(line)[:-1] for line in copy), BATCH_ROWS, len):
            shown = finishing.unflagged(batch, finishes) if finishes else batch
            yield Lines(len(batch), b"\r\n".join([*shown, b""]))


def _rows(question: Question, shown: Sequence[Any]) -> Select[Any]:
    table = question.records.table
    return select(*shown).select_from(table).where(*where(question)).order_by(*ordering(question))
