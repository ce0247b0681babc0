"""Statements for DuckDB, made by the same code as the store's: it reads PostgreSQL's words with numbered parameters.

The copy's tables have the names and columns of the store's, but hold times in UTC without an offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import duckdb
from sqlalchemy import ClauseElement
from sqlalchemy.dialects import postgresql

_DIALECT = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


def compiled(statement: ClauseElement) -> tuple[str, list[Any]]:
    """The statement's text and its values, in the order of their numbers."""
    made: Any = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(made), [_bound(made.params[name]) for name in made.positiontup or ()]


def rows(cursor: duckdb.DuckDBPyConnection, statement: ClauseElement) -> list[Sequence[Any]]:
    """All of its rows; times are aware."""
    return [[_read(value) for value in row] for row in cursor.execute(*compiled(statement)).fetchall()]


def _bound(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    return value.value if isinstance(value, Enum) else value


def _read(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
