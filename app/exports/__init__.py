"""Records as files, one module a format; this table is all of them.

A format's `blocks` takes records in batches, the texts of their values by columns, and gives the file piece by piece:
however long the export is, only a batch of it is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from app.exports import csv, ndjson, parquet, xlsx
from app.exports.columns import Batch, Column

Blocks = Callable[[Iterable[Batch], Sequence[Column], bool], Iterator[bytes]]


class Format(NamedTuple):
    """`blocks(batches, columns, raw)`; `raw` leaves out the guard of text cells, where the format has one."""

    content_type: str
    blocks: Blocks


_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

FORMATS = {
    "csv": Format("text/csv; charset=utf-8", csv.blocks),
    "ndjson": Format("application/x-ndjson", ndjson.blocks),
    "xlsx": Format(_XLSX, xlsx.blocks),
    "parquet": Format("application/vnd.apache.parquet", parquet.blocks),
}
