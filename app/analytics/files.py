"""Files of outcomes, written by DuckDB's COPY into a pipe: CSV, NDJSON, Parquet, and numbers to dial again.

What is asked for in order of time is written a stretch of time at a time, so that the first bytes come at once and
nothing has to be sorted whole.
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
from app.store.query.conditions import where
from app.store.query.order import ordering
from app.store.query.question import Condition, Operator, Question, is_json
from app.store.schema import outcomes
from app.store.types import CodePointText, UtcDateTime

SECONDS = 4 * 3600.0  # for one file: so long it holds on to the copy as it was
STRETCH_ROWS = 50_000
BLOCK_BYTES = 1 << 18


def written(copy: Copy, file: File) -> Iterator[bytes]:
    """The file, block by block, as the copy is at one moment. Where it fails, or nobody reads on, it ends.

    Raises `Damaged`, `TooSlow`.
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
        os.close(reader)  # what is still being written then fails
        thread.join()
    if failures:
        raise failures[0]


class _Pipe:
    """The end that is written to."""

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
            columns = [_typed(_shown(outcomes.c[name], file)).label(name) for name in file.fields]
            pipe.copy(cursor, _rows(file.question, columns), "FORMAT parquet, COMPRESSION zstd")
        case "ndjson":
            # One text a row, which is JSON already: nothing in it is to be quoted.
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
    return select(*columns).select_from(outcomes).where(*where(question)).order_by(*ordering(question))


# --- stretches of time


def _stretches(cursor: Cursor, question: Question) -> Iterator[Question]:
    """The question, in parts that follow one another in its order; whole where that is not of time."""
    first = question.whole_order[0]
    if first.field != "ended_at":
        yield question
        return
    hour = func.date_trunc("hour", outcomes.c.ended_at)
    counted = select(hour, func.count()).where(*where(question)).group_by(literal_column("1"))
    hours = sorted(((moment, count) for moment, count in rows(cursor, counted)), reverse=first.descending)
    bounds = [None, *_bounds(hours), None]
    for near, far in pairwise(bounds):
        since, until = (far, near) if first.descending else (near, far)
        within = [(Operator.GTE, since), (Operator.LT, until)]
        conditions = [Condition("ended_at", operator, [moment]) for operator, moment in within if moment]
        yield replace(question, conditions=[*question.conditions, *conditions])


def _bounds(hours: Iterable[tuple[datetime, int]]) -> Iterator[datetime]:
    """The hours at which a stretch is full."""
    held = 0
    for hour, count in hours:
        if held and held + count > STRETCH_ROWS:
            yield hour
            held = 0
        held += count


# --- what stands in a cell


_START = "CASE WHEN length(phone_number) > 9 THEN left(phone_number, 5) ELSE '' END"
_E164 = f"{_START} || '{HIDDEN}' || right(phone_number, 4)"
_LAST_DIGITS = f"'{HIDDEN}' || right(regexp_replace(phone_number_raw, '[^0-9]', '', 'g'), 4)"
_SHOWN_MASKED = {
    "phone_number": _E164,
    "phone_number_raw": _LAST_DIGITS,
    **{name: f"coalesce({name}_masked, {name})" for name in MASKED},
}
_MOMENT = (
    "CASE WHEN {0} = date_trunc('second', {0}) THEN replace({0}::VARCHAR, ' ', 'T') || 'Z' "
    "ELSE rpad(replace({0}::VARCHAR, ' ', 'T'), 26, '0') || 'Z' END"
)
_FIRST = ", ".join(f"chr({ord(one)})" for one in GUARDED)
_GUARDED = f"CASE WHEN left({{0}}, 1) IN ({_FIRST}) THEN '''' || {{0}} ELSE {{0}} END"


def _shown(column: Column[Any], file: File) -> ColumnElement[Any]:
    """The column as the analyst may see it."""
    is_hidden = not file.reveal and column.name in _SHOWN_MASKED
    return literal_column(_SHOWN_MASKED[column.name] if is_hidden else column.name, column.type)


def _typed(shown: ColumnElement[Any]) -> ColumnElement[Any]:
    """With Parquet's types: times are of UTC, what has no type there is text."""
    if isinstance(shown.type, UtcDateTime):
        return literal_column(f"timezone('UTC', {shown})")
    return shown if isinstance(shown.type, Integer | Boolean) else literal_column(f"({shown})::VARCHAR")


def _text(shown: ColumnElement[Any]) -> str:
    return _MOMENT.format(shown) if isinstance(shown.type, UtcDateTime) else f"({shown})"


def _cell(name: str, file: File) -> ColumnElement[Any]:
    """A lone cell that is null would be no line."""
    column = outcomes.c[name]
    shown = _text(_shown(column, file))
    if column.type is CodePointText and not file.raw:
        shown = _GUARDED.format(shown)
    return literal_column(f"coalesce({shown}::VARCHAR, '')" if len(file.fields) == 1 else shown)


def _object(file: File) -> ColumnElement[Any]:
    """A JSON object, as the query API shows the record."""
    pairs = [f"'\"{name}\":' || coalesce({_json(outcomes.c[name], file)}, 'null')" for name in file.fields]
    line = " || ".join(["'{'", " || ',' || ".join(pairs), "'}'"])
    for end, escape in LINE_ENDS.items():
        line = f"replace({line}, chr({ord(end)}), '{escape}')"
    return literal_column(line)


def _json(column: Column[Any], file: File) -> str:
    shown = _text(_shown(column, file))
    if is_json(column) or isinstance(column.type, Integer | Boolean):
        return f"{shown}::VARCHAR"
    return f"to_json({shown}::VARCHAR)::VARCHAR"
