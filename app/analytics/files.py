"""Files of outcomes, written by DuckDB's COPY into a pipe: CSV, NDJSON, Parquet, and contact lists for redialling.

A file in order of time is written one stretch of time after another: the first bytes arrive at once, and no sort has
to hold all rows.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from duckdb import DuckDBPyConnection as Cursor
from sqlalchemy import Boolean, Column, ColumnElement, Integer, Select, func, literal_column, select

from app.analytics.copy import MASKED, Copy
from app.analytics.protocol import File
from app.analytics.redial import contact_list
from app.analytics.sql import compiled, rows
from app.exports.cells import GUARDED, HIDDEN, LINE_ENDS
from app.exports.csv import header
from app.store.csv_rows import COLUMNS
from app.store.query.conditions import where
from app.store.query.order import ordering
from app.store.query.question import Condition, Operator, Question, is_json
from app.store.schema import outcomes
from app.store.types import CodePointText, UtcDateTime

SECONDS = 4 * 3600.0  # for one file, whose transaction keeps its snapshot of the copy so long
FIRST_STRETCH_BYTES = 25_000_000  # the first rows wait for this stretch
# A tenth of the memory each: four files may be written at once, and DuckDB needs about twice a stretch. Of 1 GB it is
# some 190,000 usual rows, more than one of DuckDB's row groups, so that two processors have work.
STRETCHES_IN_MEMORY = 10
ROW_BYTES = 300  # of a row without its lists and objects
BLOCK_BYTES = 1 << 18


def written(copy: Copy, file: File) -> Iterator[bytes]:
    """Yield the file's blocks, from one snapshot of the copy. An error, or a consumer that stops reading, ends the
    COPY.

    Raises `MustReopen`, `TooSlow`.
    """
    reader, writer = os.pipe()
    failures: list[Exception] = []

    def write() -> None:
        try:
            with closing(_Pipe(writer)) as pipe, copy.reading(SECONDS) as cursor:
                _write(cursor, file, pipe)
        except Exception as error:  # noqa: BLE001  raised again in the thread that reads
            failures.append(error)

    thread = threading.Thread(target=write, name="file", daemon=True)
    thread.start()
    try:
        while block := os.read(reader, BLOCK_BYTES):
            yield block
    finally:
        os.close(reader)  # a COPY that is still running then fails
        thread.join()
    if failures:
        raise failures[0]


class _Pipe:
    """The write end of the pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: bytes) -> None:
        while text:
            text = text[os.write(self._descriptor, text) :]

    def copy(self, cursor: Cursor, statement: Select[Any], options: str) -> None:
        text, values = compiled(statement)
        cursor.execute(f"COPY ({text}) TO '/dev/fd/{self._descriptor}' ({options})", values)

    def close(self) -> None:
        os.close(self._descriptor)


def _write(cursor: Cursor, file: File, pipe: _Pipe) -> None:
    match file.form:
        case "redial":
            pipe.copy(cursor, contact_list(file.question, file.without), "FORMAT csv")
        case "parquet":
            columns = [_typed(_visible(outcomes.c[name], file)).label(name) for name in file.fields]
            pipe.copy(cursor, _rows(file.question, columns), "FORMAT parquet, COMPRESSION zstd")
        case "ndjson":
            # Each row is one text that is JSON already, so nothing in it may be quoted.
            plain = "FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER E'\\x01'"
            _copy_by_stretches(cursor, file, [_object(file)], plain, pipe)
        case _:
            pipe.write(header(file.fields))
            cells = [_cell(name, file) for name in file.fields]
            _copy_by_stretches(cursor, file, cells, "FORMAT csv, HEADER false", pipe)


def _copy_by_stretches(
    cursor: Cursor, file: File, columns: Sequence[ColumnElement[Any]], options: str, pipe: _Pipe
) -> None:
    for question in _stretches(cursor, file.question):
        pipe.copy(cursor, _rows(question, columns), options)


def _rows(question: Question, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
    """Return the columns of the matching rows in order. They are computed after the sort, which then holds less.

    DuckDB preserves the order of a subquery: https://duckdb.org/docs/stable/sql/dialect/order_preservation
    """
    ordered: Select[Any] = (
        select(literal_column("*")).select_from(outcomes).where(*where(question)).order_by(*ordering(question))
    )
    return select(*columns).select_from(ordered.subquery())


# --- stretches of time


_BYTES = f"sum({ROW_BYTES} + " + " + ".join(f"strlen({column.name})" for column in COLUMNS if is_json(column)) + ")"


def _stretches(cursor: Cursor, question: Question) -> Iterator[Question]:
    """Split the question into stretches of time, in its order; yield it whole if its first sort field is not the
    time."""
    first_order = question.whole_order[0]
    if first_order.field != "ended_at":
        yield question
        return
    hour = func.date_trunc("hour", outcomes.c.ended_at)
    measured = select(hour, literal_column(_BYTES)).where(*where(question)).group_by(literal_column("1"))
    hours = sorted(((moment, size) for moment, size in rows(cursor, measured)), reverse=first_order.descending)
    bounds = [None, *_bounds(hours, _memory_bytes(cursor) // STRETCHES_IN_MEMORY), None]
    for start, end in pairwise(bounds):
        since, until = (end, start) if first_order.descending else (start, end)
        limits = [(Operator.GTE, since), (Operator.LT, until)]
        conditions = [Condition("ended_at", operator, [moment]) for operator, moment in limits if moment]
        yield replace(question, conditions=[*question.conditions, *conditions])


def _bounds(hours: Iterable[tuple[datetime, int]], most: int) -> Iterator[datetime]:
    """Yield the hours at which a new stretch begins; a stretch has at most `most` bytes, unless an hour has more."""
    held, limit = 0, min(most, FIRST_STRETCH_BYTES)
    for hour, size in hours:
        if held and held + size > limit:
            yield hour
            held, limit = 0, most
        held += size


def _memory_bytes(cursor: Cursor) -> int:
    """Return the copy's limit of memory."""
    limit = "SELECT parse_formatted_bytes(current_setting('memory_limit'))"
    return int(cursor.execute(limit).fetchall()[0][0])


# --- the contents of cells


_START = "CASE WHEN length(phone_number) > 9 THEN left(phone_number, 5) ELSE '' END"
_E164 = f"{_START} || '{HIDDEN}' || right(phone_number, 4)"
_LAST_DIGITS = f"'{HIDDEN}' || right(regexp_replace(phone_number_raw, '[^0-9]', '', 'g'), 4)"
_MASKED_SQL = {
    "phone_number": _E164,
    "phone_number_raw": _LAST_DIGITS,
    **{name: f"coalesce({name}_masked, {name})" for name in MASKED},
}
_MOMENT = (
    "CASE WHEN epoch_us({0}) % 1000000 = 0 THEN strftime({0}, '%Y-%m-%dT%H:%M:%SZ') "
    "ELSE strftime({0}, '%Y-%m-%dT%H:%M:%S.%fZ') END"
)
_GUARDED_CODES = ", ".join(str(ord(character)) for character in GUARDED)
_GUARDED = f"CASE WHEN ascii({{0}}) IN ({_GUARDED_CODES}) THEN '''' || {{0}} ELSE {{0}} END"


def _visible(column: Column[Any], file: File) -> ColumnElement[Any]:
    """Return the column, masked if the analyst may not see it."""
    is_hidden = not file.reveal and column.name in _MASKED_SQL
    return literal_column(_MASKED_SQL[column.name] if is_hidden else column.name, column.type)


def _typed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Convert the column to a Parquet type: times in UTC, and text for everything without a type of its own."""
    if isinstance(column.type, UtcDateTime):
        return literal_column(f"timezone('UTC', {column})")
    return column if isinstance(column.type, Integer | Boolean) else literal_column(f"({column})::VARCHAR")


def _text(column: ColumnElement[Any]) -> str:
    return _MOMENT.format(column) if isinstance(column.type, UtcDateTime) else f"({column})"


def _cell(name: str, file: File) -> ColumnElement[Any]:
    """Return a CSV cell. A null in a file of one column would make an empty line, so it becomes an empty text."""
    column = outcomes.c[name]
    cell = _text(_visible(column, file))
    if column.type is CodePointText and not file.raw:
        cell = _GUARDED.format(cell)
    return literal_column(f"coalesce({cell}::VARCHAR, '')" if len(file.fields) == 1 else cell)


def _object(file: File) -> ColumnElement[Any]:
    """Return the record as a JSON object with the values of the query API."""
    pairs = [f"'\"{name}\":', coalesce({_json(outcomes.c[name], file)}, 'null')" for name in file.fields]
    members = ", ',', ".join(pairs)
    line = f"concat('{{', {members}, '}}')"  # a chain of || would copy the line again for each field
    for end, escape in LINE_ENDS.items():
        line = f"replace({line}, chr({ord(end)}), '{escape}')"
    return literal_column(line)


def _json(column: Column[Any], file: File) -> str:
    value = _text(_visible(column, file))
    if is_json(column) or isinstance(column.type, Integer | Boolean):
        return f"{value}::VARCHAR"
    return f"to_json({value}::VARCHAR)::VARCHAR"
