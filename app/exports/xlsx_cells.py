"""Cells and rows of a sheet as XML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from app.exports.columns import Column, Kind, Texts

Row = tuple[str, ...]

MAX_CHARACTERS = 32_767  # as UTF-16 counts them

_EPOCH = datetime(1899, 12, 30, tzinfo=UTC)
_EARLIEST = datetime(1900, 3, 1, tzinfo=UTC)  # spreadsheets count earlier days differently
_DAY = timedelta(days=1)
# What XML does not hold or its readers change, and what spreadsheets would take for such an escape.
_UNSAFE = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}


def rows(found: Iterable[Texts], columns: Sequence[Column]) -> Iterator[Row]:
    """The rows, each as what stands in its cells between their references and ends; "" is no cell."""
    cells = [_CELLS[column.kind] for column in columns]
    for row in found:
        yield tuple([cell(text) if text else "" for cell, text in zip(cells, row, strict=True)])


def row_xml(number: int, row: Row, names: Sequence[str]) -> str:
    """The row of that number, whose cells stand under these letters."""
    cells = "".join([f'<c r="{name}{number}"{cell}</c>' for name, cell in zip(names, row, strict=True) if cell])
    return f'<row r="{number}">{cells}</row>'


def header(columns: Sequence[Column]) -> Row:
    return tuple(_text(name) for name, _ in columns)


def letters(count: int) -> list[str]:
    """A, B, … Z, AA, AB, …"""
    return [(chr(64 + at // 26) if at >= 26 else "") + chr(65 + at % 26) for at in range(count)]


def fitting(text: str) -> str:
    """The text as far as a cell holds it; one that is cut says so."""
    if len(text) * 2 <= MAX_CHARACTERS or _size(text) <= MAX_CHARACTERS:
        return text
    mark = f"… (cut: {len(text)} characters in all; CSV, NDJSON and Parquet have them)"
    kept = text.encode("utf-16-le")[: 2 * (MAX_CHARACTERS - len(mark))]
    return kept.decode("utf-16-le", "ignore") + mark


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


# What stands between a cell's reference and its end.
_CELLS: dict[Kind, Callable[[str], str]] = {
    Kind.TEXT: _text,
    Kind.NUMBER: lambda value: f"><v>{value}</v>",
    Kind.FLAG: lambda value: f' t="b"><v>{int(value == "true")}</v>',
    Kind.MOMENT: _moment,
    Kind.JSON: _text,
}
