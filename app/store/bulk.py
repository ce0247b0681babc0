"""Inserts many rows with one statement, on the path of every callback.

SQLAlchemy's own multi-row insert builds each statement anew, and psycopg scans each for placeholders; both cost
several times as much as the execution. Here the statement is built once for each number of rows, in the driver's
syntax, and goes directly to the driver. Columns and types still come from the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Dialect, Table, exc

from app.store.rows import Values

Processor = Callable[[Any], Any]


def insert_rows(connection: Connection, table: Table, rows: Sequence[Values], on_conflict: str) -> Sequence[Any]:
    """Execute `INSERT INTO table VALUES …, … on_conflict` with a value for each column of each row; return its
    result."""
    processors = _processors(table, connection.dialect)
    values: list[Any] = []
    for row in rows:
        start = len(values)
        values += row
        for at, process in processors:
            if (value := values[start + at]) is not None:
                values[start + at] = process(value)
    statement = _statement(table, len(rows), on_conflict, connection.dialect.name)
    return _execute(connection, statement, values)


def returned_id(stored: UUID | str) -> UUID:
    """Convert a returned id to a UUID, since SQLite's driver returns the stored text."""
    return stored if isinstance(stored, UUID) else UUID(stored)


def _execute(connection: Connection, statement: str, values: Sequence[Any]) -> Sequence[Any]:
    driver: Any = connection.connection.driver_connection
    dbapi: Any = connection.dialect.loaded_dbapi
    errors = dbapi.Error
    new_cursor: Any = partial(dbapi.RawCursor, driver) if connection.dialect.name == "postgresql" else driver.cursor
    with closing(new_cursor()) as cursor:
        try:
            cursor.execute(statement, values)
            result: Sequence[Any] = cursor.fetchall()
        except errors as error:
            raise exc.DBAPIError.instance(statement, None, error, errors, dialect=connection.dialect) from error
    return result


@lru_cache(maxsize=1024)
def _statement(table: Table, rows: int, on_conflict: str, dialect: str) -> str:
    width = len(table.c)
    placeholders = [f"${at + 1}" if dialect == "postgresql" else "?" for at in range(width * rows)]
    values = ", ".join(f"({', '.join(placeholders[at : at + width])})" for at in range(0, len(placeholders), width))
    columns = ", ".join(column.name for column in table.c)
    # A failure rolls back the whole transaction anyway. Without OR FAIL SQLite prepares to roll back this statement
    # alone, and copies each page that it changes into a file.
    or_fail = "OR FAIL " if dialect == "sqlite" else ""
    return f"INSERT {or_fail}INTO {table.name} ({columns}) VALUES {values} {on_conflict}"  # noqa: S608


@lru_cache(maxsize=16)
def _processors(table: Table, dialect: Dialect) -> list[tuple[int, Processor]]:
    """Return the bind processors of those columns whose values the driver does not accept unchanged, with their
    positions."""
    processors = [column.type.dialect_impl(dialect).bind_processor(dialect) for column in table.c]
    return [(at, process) for at, process in enumerate(processors) if process]
