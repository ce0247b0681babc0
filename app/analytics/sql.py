"""Statements for DuckDB, made by the same code as the store's: it reads PostgreSQL's words with numbered parameters.

The copy's tables have the names and columns of the store's, but hold times in UTC without an offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql.base import PGDialect

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Cursor

LEAST_LINE_BYTES = 1 << 24
# It writes no type behind a parameter: one with an offset would make DuckDB give an offset to each row's time, which
# takes ten times as long, and pass over no block.
_DIALECT = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


def compiled(statement: ClauseElement) -> tuple[str, list[Any]]:
    """The statement's text and its values, in the order of their numbers."""
    made: Any = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(made), [_bound(made.params[name]) for name in made.positiontup or ()]


def rows(cursor: Cursor, statement: ClauseElement) -> list[Sequence[Any]]:
    """All of its rows; times are aware."""
    return fetched(cursor.execute(*compiled(statement)))


def fetched(cursor: Cursor) -> list[Sequence[Any]]:
    """The rows of what was executed; times are aware."""
    return [[_read(value) for value in row] for row in cursor.fetchall()]


def csv_source(path: str, types: Mapping[str, str], line_bytes: int) -> str:
    """A file or pipe of CSV as a table: every text may stand in quotes, an empty cell without them is null.

    No line is longer than `line_bytes`; what reads them takes twice as much memory.
    """
    columns = ", ".join(f"{literal(name)}: {literal(type_)}" for name, type_ in types.items())
    longest = max(line_bytes, LEAST_LINE_BYTES)
    return (
        f"read_csv({literal(path)}, columns = {{{columns}}}, auto_detect = false, header = false, delim = ',', "
        "quote = '\"', escape = '\"', nullstr = '', allow_quoted_nulls = false, new_line = '\\n', parallel = false, "
        f"max_line_size = {longest}, buffer_size = {2 * longest})"
    )


def literal(text: str) -> str:
    """The text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def _bound(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    return value.value if isinstance(value, Enum) else value


def _read(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
