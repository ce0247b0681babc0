"""Statements for DuckDB, compiled from the same SQLAlchemy code as the store's: DuckDB accepts PostgreSQL's dialect
with numbered parameters.

The copy's tables have the names and columns of the store's tables, but their times are UTC without an offset.
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
# The dialect writes no type after a parameter. For a parameter with an offset, DuckDB would add an offset to the time
# of each row, which takes ten times as long, and could skip no block.
_DIALECT = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


def compiled(statement: ClauseElement) -> tuple[str, list[Any]]:
    """Return the statement's text and its parameters, in the order of their numbers."""
    compilation: Any = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    parameters = compilation.params  # which computes all of them each time
    return str(compilation), [_bound(parameters[name]) for name in compilation.positiontup or ()]


def rows(cursor: Cursor, statement: ClauseElement) -> list[Sequence[Any]]:
    """Execute the statement and return all rows; times are aware."""
    return fetched(cursor.execute(*compiled(statement)))


def fetched(cursor: Cursor) -> list[Sequence[Any]]:
    """Return all rows of the executed statement; times are aware."""
    return [[_read(value) for value in row] for row in cursor.fetchall()]


def csv_source(path: str, types: Mapping[str, str], line_bytes: int, quote: str = '"', null: str = "") -> str:
    """Return a table function for a CSV file or pipe: texts may be quoted; a cell `null` without quotes is null.

    No line may be longer than `line_bytes`; DuckDB's reader needs twice that memory.
    """
    columns = ", ".join(f"{literal(name)}: {literal(type_)}" for name, type_ in types.items())
    max_line_bytes = max(line_bytes, LEAST_LINE_BYTES)
    return (
        f"read_csv({literal(path)}, columns = {{{columns}}}, auto_detect = false, header = false, delim = ',', "
        f"quote = {literal(quote)}, escape = {literal(quote)}, nullstr = {literal(null)}, "
        "allow_quoted_nulls = false, new_line = '\\n', parallel = false, "
        f"max_line_size = {max_line_bytes}, buffer_size = {2 * max_line_bytes})"
    )


def literal(text: str) -> str:
    """Return the text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _bound(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    return value.value if isinstance(value, Enum) else value


def _read(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
