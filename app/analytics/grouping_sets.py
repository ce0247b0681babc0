"""Several groupings of the same rows by one statement, which reads the rows once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, func, literal_column, select, tuple_

from app.analytics.sql import rows

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Cursor

Row = dict[str, Any]


def groups(
    cursor: Cursor,
    columns: Mapping[str, ColumnElement[Any]],
    sets: Sequence[Sequence[str]],
    figures: Mapping[str, ColumnElement[Any]],
    conditions: Sequence[ColumnElement[bool]] = (),
    most: int | None = None,
) -> list[list[Row]]:
    """For each set of names its groups, in no order: the values of these columns, and the figures. There are `most`
    in all."""
    names = list(columns)
    number = func.grouping(*columns.values()) if columns else literal_column("0")
    grouping_sets = func.grouping_sets(*(tuple_(*(columns[name] for name in one)) for one in sets))
    statement = select(number, *columns.values(), *figures.values()).where(*conditions).group_by(grouping_sets)
    found = rows(cursor, statement.limit(most))
    wanted = [(_number(one, names), [*one, *figures]) for one in sets]
    told = [(row[0], dict(zip([*names, *figures], row[1:], strict=True))) for row in found]
    return [[{name: row[name] for name in shown} for of, row in told if of == number] for number, shown in wanted]


def _number(one: Sequence[str], names: Sequence[str]) -> int:
    """By which GROUPING tells of a set: a bit for each name that it leaves out, the first name's the highest."""
    return sum(1 << place for place, name in enumerate(reversed(names)) if name not in one)
