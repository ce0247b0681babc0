"""Columns of values as texts that analysts see, made of what the engines store: whole columns at once, since a step
for each value costs more than all else.

`web/fields.py` says how a value is shown; a test holds the two against each other.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, Column, ColumnElement, Integer, LargeBinary, Uuid, literal_column

from app.store.types import UtcDateTime

Texts = Sequence[str | None]


class _Kind(StrEnum):
    """How a column is stored, as far as its text depends on it."""

    TEXT = "text"  # and words and JSON: shown as they are stored
    NUMBER = "number"
    MOMENT = "moment"
    FLAG = "flag"
    KEY = "key"
    DIGEST = "digest"
    BODY = "body"  # bytes of any length, shown as base64


_KINDS = {
    UtcDateTime: _Kind.MOMENT,
    Boolean: _Kind.FLAG,
    Integer: _Kind.NUMBER,
    Uuid: _Kind.KEY,
}
_FLAG = "CASE WHEN {0} THEN 'true' WHEN NOT {0} THEN 'false' END"
# What the engine itself shows better than Python; all else is fetched as it is stored.
_SQL = {
    "sqlite": {_Kind.FLAG: _FLAG, _Kind.NUMBER: "CAST({0} AS TEXT)", _Kind.DIGEST: "lower(hex({0}))"},
    "postgresql": {
        _Kind.FLAG: _FLAG,
        _Kind.DIGEST: "encode({0}, 'hex')",
        _Kind.BODY: "translate(encode({0}, 'base64'), chr(10), '')",
    },
}
# Of what the store holds, no text has it.
_BETWEEN = "\0"
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_NULL = r"\N"


def selected(column: Column[Any], dialect: str) -> ColumnElement[Any]:
    """What to ask the engine for."""
    template = _SQL[dialect].get(_kind(column), "{0}")
    return literal_column(template.format(column))


def shown_by_sqlite(column: Column[Any], found: Sequence[Any]) -> Texts:
    """The values as SQLite's driver gives them, as analysts see them."""
    if _kind(column) is _Kind.KEY:
        return [f"{v[:8]}-{v[8:12]}-{v[12:16]}-{v[16:20]}-{v[20:]}" if v else None for v in found]
    if _kind(column) is _Kind.BODY:
        return [b64encode(body).decode() for body in found]
    return _changed(found, _of_sortable) if _kind(column) is _Kind.MOMENT else found


def is_escaped(copied: str) -> bool:
    """Whether values of what COPY wrote are escaped, and not only nulls: within values it doubles each backslash."""
    return copied.count("\\") != copied.count(_NULL)


def shown_by_postgresql(column: Column[Any], found: Sequence[str], escaped: bool) -> Texts:
    """The values as COPY writes them in its text format, of a session in UTC, as analysts see them."""
    texts = [None if text == _NULL else text for text in found] if _NULL in found else found
    if _kind(column) is _Kind.MOMENT:
        return _changed(texts, _of_timestamptz)
    if escaped:
        return [_unescaped(text) if text else text for text in texts]
    return texts


def _changed(texts: Texts, change: Callable[[str], str]) -> Texts:
    """All of them, by one pass over their joined text; nulls stay."""
    present = [text for text in texts if text is not None]
    if not present:
        return texts
    changed = change(_BETWEEN.join([*present, ""])).split(_BETWEEN)[:-1]
    if len(present) == len(texts):
        return changed
    each = iter(changed)
    return [None if text is None else next(each) for text in texts]


def _of_sortable(moments: str) -> str:
    """`2026-03-08 14:30:00.000000` as RFC 3339, whose fraction has six digits or is left out."""
    return moments.replace(" ", "T").replace(".000000", "").replace(_BETWEEN, "Z" + _BETWEEN)


def _of_timestamptz(moments: str) -> str:
    """`2026-03-08 14:30:00.5+00` likewise."""
    if "." in moments:
        moments = _BETWEEN.join([_padded(moment) for moment in moments.split(_BETWEEN)])
    return moments.replace(" ", "T").replace("+00" + _BETWEEN, "Z" + _BETWEEN)


def _padded(moment: str) -> str:
    """PostgreSQL leaves out the zeros at a fraction's end."""
    return f"{moment[:-3]:0<26}{moment[-3:]}" if "." in moment else moment


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), text)


def _kind(column: Column[Any]) -> _Kind:
    if isinstance(column.type, LargeBinary):
        return _Kind.DIGEST if column.type.length else _Kind.BODY
    return next((kind for of, kind in _KINDS.items() if isinstance(column.type, of)), _Kind.TEXT)
