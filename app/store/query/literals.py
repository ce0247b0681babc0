"""Values as parameters of a statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, literal


def bound(column: Column[Any], value: Any) -> ColumnElement[Any]:
    """Return the value as a parameter of the column's type, since SQLAlchemy would render True and False inline."""
    return literal(value, column.type)


def same(columns: Sequence[Column[Any]], values: Sequence[Any]) -> list[ColumnElement[bool]]:
    """Return the conditions that each column equals its value; null equals null."""
    return [
        column.is_(None) if value is None else column == bound(column, value)
        for column, value in zip(columns, values, strict=True)
    ]
