"""XLSX (ECMA-376), written while it is sent: texts are text cells and never formulas, times are dates in UTC.

A sheet holds 1,048,576 rows; further rows continue on another sheet under the same header. A cell holds 32,767
characters; a longer text is cut, with a note at its end.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from app.exports import xlsx_parts as parts
from app.exports.columns import Column, Texts
from app.exports.sink import Sink
from app.exports.xlsx_cells import Row, header, letters, row_xml, rows

MAX_ROWS = 1_048_576
# Below the size at which a ZIP entry needs the ZIP64 format, which some spreadsheets refuse.
MAX_SHEET_BYTES = 1 << 30
EFFORT = 3  # the compression level of deflate
PIECE_BYTES = 1 << 16


def blocks(found: Iterable[Texts], columns: Sequence[Column]) -> Iterator[bytes]:
    sink = Sink()
    records = rows(found, columns)
    upcoming = next(records, None)
    sheets = 0
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=EFFORT) as book:
        while upcoming is not None or sheets == 0:
            sheets += 1
            rest = chain([upcoming] if upcoming is not None else [], records)
            with book.open(parts.sheet_name(sheets), "w") as sheet:
                for piece in _pieces(_sheet(rest, columns)):
                    sheet.write(piece)
                    yield sink.taken()
            upcoming = next(records, None)
        for name, text in parts.frame(sheets).items():
            book.writestr(name, text)
    yield sink.taken()


def _sheet(records: Iterable[Row], columns: Sequence[Column]) -> Iterator[bytes]:
    """Yield the XML of a sheet with as many records as it can hold."""
    yield parts.SHEET_START
    names = letters(len(columns))
    size = 0
    for number, row in enumerate(chain([header(columns)], records), start=1):
        text = row_xml(number, row, names).encode()
        yield text
        size += len(text)
        if number == MAX_ROWS or size > MAX_SHEET_BYTES:
            break
    yield parts.SHEET_END


def _pieces(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Join the texts to pieces large enough to compress well."""
    piece = bytearray()
    for text in texts:
        piece += text
        if len(piece) > PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)
