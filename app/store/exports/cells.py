"""Lines of a CSV file made by the database itself: the fast way to what `exports/cells.py` and `exports/csv.py` say.

What is cheaper in Python, or takes it, is left to `finishing.py`. A test holds the two against each other, byte for
byte, with phones masked and not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, Column, ColumnElement, LargeBinary, Uuid, literal_column

from app.exports.cells import GUARD, GUARDED, HIDDEN
from app.store.asking.questions import is_json
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
_GUARDING = (
    "CASE WHEN {0} IS NULL OR {0} >= 'A' OR {0} >= '.' AND {0} < '=' THEN {shown} "
    f"WHEN {_FORMULA} THEN chr({ord(GUARD)}) || {{shown}} ELSE {{shown}} END"
)
_GUARDED = _GUARDING.replace("{shown}", "{0}")
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
_SQLITE = {
    _Kind.PLAIN: "{0}",
    _Kind.TEXT: _GUARDED.replace("chr(", "char("),
    _Kind.JSON: "{0}",
    _Kind.MOMENT: "{0}",
    _Kind.FLAG: _FLAG,
    _Kind.KEY: "substr({0}, 1, 8) || '-' || substr({0}, 9, 4) || '-' || substr({0}, 13, 4) || '-' || "
    "substr({0}, 17, 4) || '-' || substr({0}, 21)",
    _Kind.DIGEST: "lower(hex({0}))",
}
_RAW_ON_POSTGRESQL = "nullif({0}, '')"
# What PostgreSQL masks by itself. A masked number is guarded by its start. Most end with four digits; elsewhere the
# inner translate finds all that is no digit and the outer one leaves it out, quicker than by a pattern.
_E164 = f"CASE WHEN length({{0}}) > 9 THEN {{start}} ELSE '' END || '{HIDDEN}' || right({{0}}, 4)"
_START = "left({0}, 5)"
_LAST_DIGITS = (
    "CASE WHEN translate(right({0}, 4), '0123456789', '') = '' AND length({0}) > 3 THEN right({0}, 4) "
    "ELSE right(translate({0}, translate({0}, '0123456789', ''), ''), 4) END"
)
MASKED = {
    "phone_number": _E164.replace("{start}", _GUARDING.replace("{shown}", _START)),
    "phone_number_raw": f"'{HIDDEN}' || {_LAST_DIGITS}",
}
_MASKED_RAW = MASKED | {"phone_number": _E164.replace("{start}", _START)}
_IS_TO_BE_MASKED = "{0} NOT IN ('{{}}', '[]', '')"
# Around each cell that may need quotes or a mask, and in place of a null among those with one. UTF-8 has neither.
MARK = b"\xff"
NULL = b"\xfe"
_TO_MASK = f"ifnull({{0}}, CAST(x'{NULL.hex()}' AS TEXT))"


def cells(columns: Sequence[Column[Any]], raw: bool, masked: Collection[str]) -> list[ColumnElement[Any]]:
    """For PostgreSQL, which joins and quotes them in COPY; null is empty."""
    return [literal_column(_of_postgresql(column, raw, masked).format(column)) for column in columns]


def flag(columns: Sequence[Column[Any]]) -> ColumnElement[Any]:
    """For PostgreSQL: a cell that is empty where none of these columns holds anything to mask."""
    return literal_column(f"CASE WHEN {' OR '.join(_IS_TO_BE_MASKED.format(one) for one in columns)} THEN 1 END")


def line(columns: Sequence[Column[Any]], raw: bool, masked: Collection[str]) -> ColumnElement[Any]:
    """For SQLite: the whole line as bytes, its end too, some cells between marks. A tuple costs twice as much."""
    texts = ", ".join(_of_sqlite(column, raw, masked).format(column) for column in columns)
    places = [MARK + b"%s" + MARK if is_marked(column) else b"%s" for column in columns]
    pattern = (b",".join(places) + b"\r\n").hex()
    return literal_column(f"CAST(printf(CAST(x'{pattern}' AS TEXT), {texts}) AS BLOB)")  # for a null it gives nothing


def is_marked(column: Column[Any]) -> bool:
    return _kind(column) in (_Kind.TEXT, _Kind.JSON)


def is_moment(column: Column[Any]) -> bool:
    return _kind(column) is _Kind.MOMENT


def _of_postgresql(column: Column[Any], raw: bool, masked: Collection[str]) -> str:
    is_masked, kind = column.name in masked, _kind(column)
    if is_masked and column.name in MASKED:
        return (_MASKED_RAW if raw else MASKED)[column.name]
    return _RAW_ON_POSTGRESQL if kind is _Kind.TEXT and (raw or is_masked) else _POSTGRESQL[kind]


def _of_sqlite(column: Column[Any], raw: bool, masked: Collection[str]) -> str:
    if column.name in masked:
        return _TO_MASK
    return "{0}" if raw and _kind(column) is _Kind.TEXT else _SQLITE[_kind(column)]


def _kind(column: Column[Any]) -> _Kind:
    if is_json(column):
        return _Kind.JSON
    if column.type is CodePointText:
        return _Kind.TEXT
    kinds = {UtcDateTime: _Kind.MOMENT, Boolean: _Kind.FLAG, Uuid: _Kind.KEY, LargeBinary: _Kind.DIGEST}
    return next((kind for of, kind in kinds.items() if isinstance(column.type, of)), _Kind.PLAIN)
