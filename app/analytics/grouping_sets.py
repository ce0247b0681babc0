"""Several groupings of the same rows in one statement, which reads the rows once."""

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
    """Return, for each set of names, its groups: the values of these columns and the figures, unsorted.

    `most` limits the number of groups over all sets.
    """
    names = list(columns)
    number = func.grouping(*columns.values()) if columns else literal_column("0")
    grouping_sets = func.grouping_sets(*(tuple_(*(columns[name] for name in names_of_set)) for names_of_set in sets))
    statement = select(number, *columns.values(), *figures.values()).where(*conditions).group_by(grouping_sets)
    result = rows(cursor, statement.limit(most))
    wanted_by_set = [(_number(names_of_set, names), [*names_of_set, *figures]) for names_of_set in sets]
    numbered = [(row[0], dict(zip([*names, *figures], row[1:], strict=True))) for row in result]
    return [
        [{name: row[name] for name in selected} for row_number, row in numbered if row_number == number]
        for number, selected in wanted_by_set
    ]


def _number(names_of_set: Sequence[str], names: Sequence[str]) -> int:
    """Return the number that GROUPING gives a set: one bit for each name that it lacks; the first name has the
    highest."""
    return sum(1 << bit for bit, name in enumerate(reversed(names)) if name not in names_of_set)
