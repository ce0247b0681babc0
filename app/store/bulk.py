"""Many rows in one statement, on the path of every callback.

SQLAlchemy's own multi-row insert builds each statement anew, at several times the cost of running it; here the text
is made once for each number of rows. The columns and their types are still the schema's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Table

Processor = Callable[[Any], Any] | None


def insert_rows(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], on_conflict: str
) -> Sequence[Any]:
    """`INSERT INTO table VALUES …, … on_conflict`: all rows, which must name every column; what it returns."""
    processors = _processors(table, connection.dialect)
    values = tuple(
        row[name] if process is None else process(row[name]) for row in rows for name, process in processors
    )
    statement = _statement(table, len(rows), on_conflict, connection.dialect.paramstyle)
    return connection.exec_driver_sql(statement, values).all()


@lru_cache(maxsize=1024)
def _statement(table: Table, rows: int, on_conflict: str, paramstyle: str) -> str:
    mark = "?" if paramstyle == "qmark" else "%s"
    row = f"({', '.join([mark] * len(table.c))})"
    columns = ", ".join(column.name for column in table.c)
    return f"INSERT INTO {table.name} ({columns}) VALUES {', '.join([row] * rows)} {on_conflict}"  # noqa: S608


@lru_cache(maxsize=16)
def _processors(table: Table, dialect: Dialect) -> list[tuple[str, Processor]]:
    return [(column.name, column.type.dialect_impl(dialect).bind_processor(dialect)) for column in table.c]
