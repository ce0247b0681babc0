"""Parquet with real types: moments are UTC timestamps, JSON is text. https://parquet.apache.org/docs/file-format/"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from app.exports.columns import Batch, Column, Kind, Texts
from app.exports.sink import Sink

GROUP_ROWS = 5_000  # of a row group, which is in memory whole


def blocks(batches: Iterable[Batch], columns: Sequence[Column], _raw: bool) -> Iterator[bytes]:
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
        for group in _groups(batches):
            arrays = [pa.array(texts, pa.string()).cast(one.type) for texts, one in zip(group, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            yield sink.taken()
    yield sink.taken()


def _groups(batches: Iterable[Batch]) -> Iterator[Sequence[Texts]]:
    group: list[list[str | None]] = []
    for batch in batches:
        group = [[*before, *more] for before, more in zip(group or [[]] * len(batch), batch, strict=True)]
        if len(group[0]) >= GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group
