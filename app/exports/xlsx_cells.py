"""Cells and rows of a sheet as XML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from app.exports.columns import Column, Kind, Texts

Row = tuple[str, ...]

MAX_CHARACTERS = 32_767  # in UTF-16 code units

_EPOCH = datetime(1899, 12, 30, tzinfo=UTC)
_EARLIEST = datetime(1900, 3, 1, tzinfo=UTC)  # spreadsheets count earlier days differently
_DAY = timedelta(days=1)
# Characters that XML cannot hold or parsers change, and texts that spreadsheets would read as such an escape.
_UNSAFE = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}


def rows(found: Iterable[Texts], columns: Sequence[Column]) -> Iterator[Row]:
    """Yield each row as the XML of its cells between reference and end tag; "" means no cell."""
    cells = [_CELLS[column.kind] for column in columns]
    for row in found:
        yield tuple([cell(text) if text else "" for cell, text in zip(cells, row, strict=True)])


def row_xml(number: int, row: Row, names: Sequence[str]) -> str:
    """Return the XML of the row with this number; `names` are the letters of the columns."""
    cells = "".join([f'<c r="{name}{number}"{cell}</c>' for name, cell in zip(names, row, strict=True) if cell])
    return f'<row r="{number}">{cells}</row>'


def header(columns: Sequence[Column]) -> Row:
    return tuple(_text(name) for name, _ in columns)


def letters(count: int) -> list[str]:
    """Return the names of columns: A, B, … Z, AA, AB, …"""
    return [(chr(64 + index // 26) if index >= 26 else "") + chr(65 + index % 26) for index in range(count)]


def fitting(text: str) -> str:
    """Return the text, cut to what a cell can hold, with a note if it is cut."""
    if len(text) * 2 <= MAX_CHARACTERS or _size(text) <= MAX_CHARACTERS:
        return text
    mark = f"… (cut: {len(text)} characters in all; CSV, NDJSON and Parquet have them)"
    cut = text.encode("utf-16-le")[: 2 * (MAX_CHARACTERS - len(mark))]
    return cut.decode("utf-16-le", "ignore") + mark


def _size(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _text(value: str) -> str:
    escaped = _UNSAFE.sub(_escape, fitting(value))
    return f' t="inlineStr"><is><t xml:space="preserve">{escaped}</t></is>'


def _escape(match: re.Match[str]) -> str:
    return _ENTITIES.get(match[0]) or f"_x{ord(match[0]):04X}_"


def _moment(value: str) -> str:
    moment = datetime.fromisoformat(value)
    return f' s="1"><v>{(moment - _EPOCH) / _DAY!r}</v>' if moment >= _EARLIEST else _text(value)


# The XML between a cell's reference and its end tag.
_CELLS: dict[Kind, Callable[[str], str]] = {
    Kind.TEXT: _text,
    Kind.NUMBER: lambda value: f"><v>{value}</v>",
    Kind.FLAG: lambda value: f' t="b"><v>{int(value == "true")}</v>',
    Kind.MOMENT: _moment,
    Kind.JSON: _text,
}
