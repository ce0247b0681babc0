"""Rows without their large texts, and with their weights, so that the size of a page is known before it is read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Column, ColumnElement, literal_column

from app.store.types import CodePointText, JsonText

# Larger texts are omitted. Ordinary texts are smaller, and a thousand rows full of them fit into memory.
LARGE_BYTES = 4096
WEIGHT = "weight"

# SQL for the size in bytes; PostgreSQL knows it without reading the value.
_SIZE = {"sqlite": "length(CAST({0} AS BLOB))", "postgresql": "octet_length({0})"}


def light(columns: Sequence[Column[Any]], kept: Collection[str], dialect: str) -> list[ColumnElement[Any]]:
    """Return the columns, with null for large texts except in `kept`, followed by the row's bytes of text."""
    light_columns = [column if column.name in kept else _without_large(column, dialect) for column in columns]
    return [*light_columns, _weight(tuple(columns), dialect)]


@cache
def _without_large(column: Column[Any], dialect: str) -> ColumnElement[Any]:
    if not _is_text(column):
        return column
    size = _SIZE[dialect].format(column)
    small_value = literal_column(f"CASE WHEN {size} <= {LARGE_BYTES} THEN {column} END", column.type)
    return small_value.label(column.name)


@cache
def _weight(columns: tuple[Column[Any], ...], dialect: str) -> ColumnElement[int]:
    sizes = [f"coalesce({_SIZE[dialect].format(column)}, 0)" for column in columns if _is_text(column)]
    total: ColumnElement[int] = literal_column(" + ".join(sizes) or "0")
    return total.label(WEIGHT)


def _is_text(column: Column[Any]) -> bool:
    return isinstance(column.type, type(CodePointText) | JsonText)
