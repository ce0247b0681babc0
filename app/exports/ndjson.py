"""NDJSON: one JSON object per line, as in the query API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.exports.cells import json_text, one_line


def lines(records: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    for record in records:
        yield f"{one_line(json_text(record))}\n".encode()
