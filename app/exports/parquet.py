"""Parquet with real types: moments are UTC timestamps, JSON is text. https://parquet.apache.org/docs/file-format/"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from app.exports.columns import Batch, Column, Kind
from app.exports.sink import Sink

# Of a row group, which is in memory whole; large rows are fewer.
GROUP_ROWS = 5_000
GROUP_BYTES = 1 << 23


def blocks(batches: Iterable[Batch], columns: Sequence[Column], _raw: bool) -> Iterator[bytes]:
    import pyarrow as pa  # here, because it takes 60 MB that no other format needs
    from pyarrow import parquet

    pa.set_memory_pool(pa.system_memory_pool())  # pyarrow's own keeps what it once had
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
        for group in _groups(_tables(batches, schema)):
            writer.write_table(pa.concat_tables(group))
            yield sink.taken()
    yield sink.taken()


def _tables(batches: Iterable[Batch], schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    for batch in batches:
        arrays = [pa.array(texts, pa.string()).cast(one.type) for texts, one in zip(batch, schema, strict=True)]
        yield pa.Table.from_arrays(arrays, schema=schema)


def _groups(tables: Iterable[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    for table in tables:
        group.append(table)
        if sum(one.num_rows for one in group) >= GROUP_ROWS or sum(one.nbytes for one in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group
