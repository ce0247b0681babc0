"""CSV by RFC 4180: a header, CRLF, UTF-8, quotes only where needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from app.exports.cells import cells
from app.exports.columns import Batch, Column

END = "\r\n"


def blocks(batches: Iterable[Batch], columns: Sequence[Column], raw: bool) -> Iterator[bytes]:
    yield header(columns)
    for batch in batches:
        yield lines([cells(texts, kind, raw) for texts, (_, kind) in zip(batch, columns, strict=True)])


def header(columns: Sequence[Column]) -> bytes:
    return lines([[column.name] for column in columns])


def lines(columns: Sequence[Sequence[str]]) -> bytes:
    """Rows of finished cells, given by columns. A lone cell that is empty would be no line, and is quoted."""
    if len(columns) == 1:
        columns = [[cell or '""' for cell in columns[0]]]
    return "".join([",".join(row) + END for row in zip(*columns, strict=True)]).encode()
