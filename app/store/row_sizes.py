"""Rows without what is large in them, and what they weigh: how much a page would hold is known before it is read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Column, ColumnElement, literal_column

from app.store.types import CodePointText, JsonText

# A text beyond it is left out. Ordinary ones are below, and a thousand rows full of them fit into memory.
LARGE_BYTES = 4096
WEIGHT = "weight"

# Of the stored bytes; PostgreSQL knows without reading them.
_SIZE = {"sqlite": "length(CAST({0} AS BLOB))", "postgresql": "octet_length({0})"}


def light(columns: Sequence[Column[Any]], kept: Collection[str], dialect: str) -> list[ColumnElement[Any]]:
    """The columns, large texts being null but in those kept, and behind them the bytes of all texts of a row."""
    shown = [column if column.name in kept else _shown(column, dialect) for column in columns]
    return [*shown, _weight(tuple(columns), dialect)]


@cache
def _shown(column: Column[Any], dialect: str) -> ColumnElement[Any]:
    if not _is_text(column):
        return column
    size = _SIZE[dialect].format(column)
    shown = literal_column(f"CASE WHEN {size} <= {LARGE_BYTES} THEN {column} END", column.type)
    return shown.label(column.name)


@cache
def _weight(columns: tuple[Column[Any], ...], dialect: str) -> ColumnElement[int]:
    sizes = [f"coalesce({_SIZE[dialect].format(column)}, 0)" for column in columns if _is_text(column)]
    found: ColumnElement[int] = literal_column(" + ".join(sizes) or "0")
    return found.label(WEIGHT)


def _is_text(column: Column[Any]) -> bool:
    return isinstance(column.type, type(CodePointText) | JsonText)
