"""Lines of a CSV file made by the database itself: the fast way to what `exports/cells.py` and `exports/csv.py` say.

A test holds the two against each other, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, Column, ColumnElement, LargeBinary, Uuid, func, literal, literal_column

from app.exports.cells import GUARD, GUARDED
from app.store.questions import is_json
from app.store.types import CodePointText, UtcDateTime


class _Kind(StrEnum):
    """How a column is stored, as far as its text depends on it."""

    PLAIN = "plain"  # numbers and words of ours, whose text is what is stored
    TEXT = "text"
    JSON = "json"
    MOMENT = "moment"
    FLAG = "flag"
    KEY = "key"
    DIGEST = "digest"


_FIRST = ", ".join(f"chr({ord(one)})" for one in GUARDED)
_GUARDED = f"CASE WHEN substr({{0}}, 1, 1) IN ({_FIRST}) THEN chr({ord(GUARD)}) || {{0}} ELSE {{0}} END"
_FLAG = "CASE WHEN {0} THEN 'true' WHEN NOT {0} THEN 'false' END"

_POSTGRESQL = {
    _Kind.PLAIN: "{0}",
    _Kind.TEXT: f"nullif({_GUARDED}, '')",
    _Kind.JSON: "{0}",
    # In the session's UTC. PostgreSQL's own text drops zeros at a fraction's end; it should have six digits or none.
    _Kind.MOMENT: "CASE WHEN {0} = {0}::timestamptz(0) THEN {0}::date || 'T' || {0}::time || 'Z' "
    "ELSE rpad({0}::date || 'T' || {0}::time, 26, '0') || 'Z' END",
    _Kind.FLAG: _FLAG,
    _Kind.KEY: "{0}",
    _Kind.DIGEST: "encode({0}, 'hex')",
}
_SQLITE = {
    _Kind.PLAIN: "{0}",
    _Kind.TEXT: _GUARDED.replace("chr(", "char("),
    _Kind.JSON: "{0}",
    _Kind.MOMENT: "replace(replace({0}, ' ', 'T'), '.000000', '') || 'Z'",
    _Kind.FLAG: _FLAG,
    _Kind.KEY: "substr({0}, 1, 8) || '-' || substr({0}, 9, 4) || '-' || substr({0}, 13, 4) || '-' || "
    "substr({0}, 17, 4) || '-' || substr({0}, 21)",
    _Kind.DIGEST: "lower(hex({0}))",
}
_RAW_ON_POSTGRESQL = "nullif({0}, '')"
_QUOTED = (
    "CASE WHEN {0} IS NULL THEN NULL WHEN {0} GLOB '*[\",' || char(13, 10) || ']*' "
    "THEN '\"' || replace({1}, '\"', '\"\"') || '\"' ELSE {1} END"
)


def cells(columns: Sequence[Column[Any]], raw: bool) -> list[ColumnElement[Any]]:
    """For PostgreSQL, which joins and quotes them in COPY; null is empty."""
    return [literal_column(_cell(column, _POSTGRESQL, _RAW_ON_POSTGRESQL if raw else None)) for column in columns]


def line(columns: Sequence[Column[Any]], raw: bool) -> ColumnElement[Any]:
    """For SQLite: the whole line, its end too. A row is one text then, which costs half of what a tuple does."""
    texts = ", ".join(_quoted(column, _cell(column, _SQLITE, "{0}" if raw else None)) for column in columns)
    pattern = literal(",".join(["%s"] * len(columns)) + "\r\n")  # for a null it gives nothing
    return func.printf(pattern, literal_column(texts))


def _cell(column: Column[Any], templates: dict[_Kind, str], raw: str | None) -> str:
    kind = _kind(column)
    template = raw if raw and kind is _Kind.TEXT else templates[kind]
    return template.format(_name(column))


def _quoted(column: Column[Any], cell: str) -> str:
    return _QUOTED.format(_name(column), cell) if _kind(column) in (_Kind.TEXT, _Kind.JSON) else cell


def _name(column: Column[Any]) -> str:
    return f"{column.table.name}.{column.name}"


def _kind(column: Column[Any]) -> _Kind:
    if is_json(column):
        return _Kind.JSON
    if column.type is CodePointText:
        return _Kind.TEXT
    kinds = {UtcDateTime: _Kind.MOMENT, Boolean: _Kind.FLAG, Uuid: _Kind.KEY, LargeBinary: _Kind.DIGEST}
    return next((kind for of, kind in kinds.items() if isinstance(column.type, of)), _Kind.PLAIN)
