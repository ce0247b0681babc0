"""Parquet with real types: moments are UTC timestamps, JSON is text. https://parquet.apache.org/docs/file-format/"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from app.exports.cells import json_text
from app.exports.columns import Column, Kind
from app.exports.sink import Sink

GROUP_ROWS = 5_000  # of a row group, which is in memory whole


def blocks(batches: Iterable[Sequence[dict[str, Any]]], columns: Sequence[Column], _raw: bool) -> Iterator[bytes]:
    import pyarrow as pa  # here, because it takes 60 MB that no other format needs
    from pyarrow import parquet

    types = {
        Kind.TEXT: pa.string(),
        Kind.NUMBER: pa.int64(),
        Kind.FLAG: pa.bool_(),
        Kind.MOMENT: pa.timestamp("us", tz="UTC"),
        Kind.JSON: pa.string(),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns])
    sink = Sink()
    with parquet.ParquetWriter(pa.PythonFile(sink, mode="w"), schema) as writer:
        for records in _groups(batches):
            arrays = {name: [_value(record[name], kind) for record in records] for name, kind in columns}
            writer.write_table(pa.Table.from_pydict(arrays, schema=schema))
            yield sink.taken()
    yield sink.taken()


def _groups(batches: Iterable[Sequence[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for records in batches:
        group.extend(records)
        if len(group) >= GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _value(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind is Kind.MOMENT:
        return datetime.fromisoformat(value)
    return json_text(value) if kind is Kind.JSON else value
