"""Lines of a CSV file made by the database itself: the fast way to what `exports/cells.py` and `exports/csv.py` say.

A test holds the two against each other, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, Column, ColumnElement, LargeBinary, Uuid, literal_column

from app.exports.cells import GUARD, GUARDED, quoted
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
# Nearly all begin with a letter, a digit or a plus, which comparing tells without a function.
_FORMULA = f"{{0}} >= '+' AND {{0}} < ',' OR substr({{0}}, 1, 1) IN ({_FIRST})"
_GUARDED = (
    "CASE WHEN {0} >= 'A' OR {0} >= '.' AND {0} < '=' THEN {0} "
    f"WHEN {_FORMULA} THEN chr({ord(GUARD)}) || {{0}} ELSE {{0}} END"
)
_FLAG = "CASE WHEN {0} THEN 'true' WHEN NOT {0} THEN 'false' END"

_POSTGRESQL = {
    _Kind.PLAIN: "{0}",
    _Kind.TEXT: f"CASE WHEN {{0}} = '' THEN NULL ELSE {_GUARDED} END",
    _Kind.JSON: "{0}",
    # PostgreSQL's own text drops zeros at a fraction's end; it should have six digits or none.
    _Kind.MOMENT: "CASE WHEN {0} IS NULL THEN NULL "
    "WHEN {0} = {0}::timestamptz(0) THEN replace(timezone('UTC', {0})::text, ' ', 'T') || 'Z' "
    "ELSE rpad(replace(timezone('UTC', {0})::text, ' ', 'T'), 26, '0') || 'Z' END",
    _Kind.FLAG: _FLAG,
    _Kind.KEY: "{0}",
    _Kind.DIGEST: "encode({0}, 'hex')",
}
# All that records hold but the empty has quotes in it.
_JSON = """CASE WHEN {0} = '[]' OR {0} = '{{}}' THEN {0} ELSE '"' || replace({0}, '"', '""') || '"' END"""
_SQLITE = {
    _Kind.PLAIN: "{0}",
    _Kind.TEXT: _GUARDED.replace("chr(", "char("),
    _Kind.JSON: _JSON,
    _Kind.MOMENT: "CASE WHEN {0} IS NOT NULL THEN replace(replace({0}, ' ', 'T'), '.000000', '') || 'Z' END",
    _Kind.FLAG: _FLAG,
    _Kind.KEY: "substr({0}, 1, 8) || '-' || substr({0}, 9, 4) || '-' || substr({0}, 13, 4) || '-' || "
    "substr({0}, 17, 4) || '-' || substr({0}, 21)",
    _Kind.DIGEST: "lower(hex({0}))",
}
_RAW_ON_POSTGRESQL = "nullif({0}, '')"
# Around each text of a line, where quotes may be needed. It is in no text, nor anywhere in UTF-8.
MARK = b"\xff"
_QUOTED = (b'"', b",", b"\r", b"\n")


def cells(columns: Sequence[Column[Any]], raw: bool) -> list[ColumnElement[Any]]:
    """For PostgreSQL, which joins and quotes them in COPY; null is empty."""
    return [literal_column(_cell(column, _POSTGRESQL, _RAW_ON_POSTGRESQL if raw else None)) for column in columns]


def line(columns: Sequence[Column[Any]], raw: bool) -> ColumnElement[Any]:
    """For SQLite: the whole line as bytes, its end too, texts between marks. A tuple would cost twice as much."""
    texts = ", ".join(_cell(column, _SQLITE, "{0}" if raw else None) for column in columns)
    places = [MARK + b"%s" + MARK if _kind(column) is _Kind.TEXT else b"%s" for column in columns]
    pattern = (b",".join(places) + b"\r\n").hex()
    return literal_column(f"CAST(printf(CAST(x'{pattern}' AS TEXT), {texts}) AS BLOB)")  # for a null it gives nothing


def unmarked(lines: bytes) -> bytes:
    """Of SQLite: with quotes where texts need them, which few do."""
    pieces = lines.split(MARK)
    texts = b"".join(pieces[1::2])
    if any(one in texts for one in _QUOTED):
        pieces[1::2] = [quoted(text.decode()).encode() for text in pieces[1::2]]
    return b"".join(pieces)


def _cell(column: Column[Any], templates: dict[_Kind, str], raw: str | None) -> str:
    kind = _kind(column)
    template = raw if raw and kind is _Kind.TEXT else templates[kind]
    return template.format(_name(column))


def _name(column: Column[Any]) -> str:
    return f"{column.table.name}.{column.name}"


def _kind(column: Column[Any]) -> _Kind:
    if is_json(column):
        return _Kind.JSON
    if column.type is CodePointText:
        return _Kind.TEXT
    kinds = {UtcDateTime: _Kind.MOMENT, Boolean: _Kind.FLAG, Uuid: _Kind.KEY, LargeBinary: _Kind.DIGEST}
    return next((kind for of, kind in kinds.items() if isinstance(column.type, of)), _Kind.PLAIN)
