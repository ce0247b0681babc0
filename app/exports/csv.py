"""CSV by RFC 4180, but with LF: a header, UTF-8, quotes only where needed, null as an empty cell without quotes."""

from __future__ import annotations

import codecs
import csv
import sys
from collections.abc import Iterable, Iterator, Sequence

from app.exports.cells import guarded, quoted
from app.exports.columns import Column, Kind, Texts


def header(names: Sequence[str]) -> bytes:
    return (",".join(map(quoted, names)) + "\n").encode()


def lines(rows: Iterable[Texts], columns: Sequence[Column], raw: bool = False) -> Iterator[bytes]:
    """Yield a line for each row; `raw` leaves out the guard of text cells."""
    is_guarded = [column.kind is Kind.TEXT and not raw for column in columns]
    for row in rows:
        cells = [_cell(text, guard) for text, guard in zip(row, is_guarded, strict=True)]
        # A row with a single null would be an empty line, which parsers skip.
        yield (",".join(cells if len(cells) > 1 else [cells[0] or '""']) + "\n").encode()


def read(blocks: Iterable[bytes]) -> Iterator[list[str]]:
    """Yield the rows of such a file. Its blocks may end anywhere; null is read as an empty text."""
    csv.field_size_limit(sys.maxsize)
    return csv.reader(_lines(blocks))


def _lines(blocks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest = ""
    for block in blocks:
        *complete, rest = (rest + decoder.decode(block)).split("\n")
        yield from (f"{line}\n" for line in complete)
    if rest:
        yield rest


def _cell(text: str | None, guard: bool) -> str:
    return "" if text is None else quoted(guarded(text) if guard else text)
