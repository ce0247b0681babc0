"""CSV by RFC 4180: a header, CRLF, UTF-8, quotes only where needed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from app.exports.cells import cell
from app.exports.columns import Column


def blocks(batches: Iterable[Sequence[dict[str, Any]]], columns: Sequence[Column], raw: bool) -> Iterator[bytes]:
    yield header(columns)
    for records in batches:
        yield lines([cell(record[name], kind, raw) for name, kind in columns] for record in records)


def header(columns: Sequence[Column]) -> bytes:
    return lines([[column.name for column in columns]])


def lines(rows: Iterable[Sequence[str]]) -> bytes:
    """Rows of finished cells."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
