"""Values as parameters of a statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, literal


def bound(column: Column[Any], value: Any) -> ColumnElement[Any]:
    """The value as a parameter of the column's type: SQLAlchemy would write True and False out."""
    return literal(value, column.type)


def same(columns: Sequence[Column[Any]], values: Sequence[Any]) -> list[ColumnElement[bool]]:
    """Where each column has its value, null being one like others."""
    return [
        column.is_(None) if value is None else column == bound(column, value)
        for column, value in zip(columns, values, strict=True)
    ]
