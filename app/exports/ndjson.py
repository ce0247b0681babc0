"""One JSON object a line, as the query API shows the records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from app.exports.cells import json_text
from app.exports.columns import Column


def blocks(batches: Iterable[Sequence[dict[str, Any]]], columns: Sequence[Column], _raw: bool) -> Iterator[bytes]:
    for records in batches:
        yield "".join(f"{json_text({name: record[name] for name, _ in columns})}\n" for record in records).encode()
