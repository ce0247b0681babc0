"""Converts rows to Parquet: CSV goes through DuckDB, from one pipe to another.

https://parquet.apache.org/docs/file-format/
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import duckdb

from app.analytics.sql import csv_source
from app.exports.columns import Column, Kind

# DuckDB holds a whole row group in memory.
GROUP_ROWS = 2_000
BLOCK_BYTES = 1 << 18

_TYPES: Mapping[Kind, str] = {Kind.NUMBER: "BIGINT", Kind.FLAG: "BOOLEAN", Kind.MOMENT: "TIMESTAMPTZ"}


def blocks(lines: Iterable[bytes], columns: Sequence[Column], line_bytes: int) -> Iterator[bytes]:
    """Yield the file's blocks. `lines` are CSV without header and guards; none is longer than `line_bytes`."""
    source, feed = os.pipe()
    reader, writer = os.pipe()
    failures: list[BaseException] = []

    def feed_lines() -> None:
        try:
            with os.fdopen(feed, "wb") as pipe, suppress(BrokenPipeError):
                pipe.writelines(lines)
        except BaseException as error:  # noqa: BLE001  raised again in the thread that reads
            failures.append(error)

    def convert() -> None:
        try:
            _convert(source, writer, columns, line_bytes)
        except duckdb.Error as error:
            failures.append(error)
        finally:
            os.close(writer)
            os.close(source)

    threads = [threading.Thread(target=work, daemon=True) for work in (feed_lines, convert)]
    for thread in threads:
        thread.start()
    try:
        while block := os.read(reader, BLOCK_BYTES):
            yield block
    finally:
        os.close(reader)
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def _convert(source: int, target: int, columns: Sequence[Column], line_bytes: int) -> None:
    rows = csv_source(f"/dev/fd/{source}", {name: _TYPES.get(kind, "VARCHAR") for name, kind in columns}, line_bytes)
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"COPY (SELECT * FROM {rows}) TO '/dev/fd/{target}' "  # noqa: S608
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP_ROWS})"
        )
