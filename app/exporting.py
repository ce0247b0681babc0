"""Exports, from the query to the last byte of the file.

The analytical copy writes files of outcomes. XLSX and deliveries are written here: by `plum-outcomes export`, or for
a web worker in a process of their own (`python -m app.exporting`), whose low priority protects callbacks.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from werkzeug.datastructures import MultiDict

from app import assembly
from app.analytics.protocol import File
from app.config import Settings, from_environment
from app.errors import PlumError
from app.exports import csv, ndjson, xlsx
from app.exports.cells import json_text
from app.exports.columns import Column, Texts
from app.logs import without_values
from app.query_router import QueryRouter
from app.store.database import Database, questions_database
from app.store.records import each
from app.web.exports import BODY, RECORDS, REDIAL, ExportQuery, columns, parse_export

SORT_SECONDS = 86_400.0  # time limit for the store to sort deliveries, however many
PARENT_CHECK_SECONDS = 0.5

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Order:
    """A requested export: `records` is outcomes, deliveries or redial; `parameters` are those of a list's query."""

    records: str
    format: str
    parameters: list[tuple[str, str]]
    reveal: bool


def export(settings: Settings, database: Database, router: QueryRouter, order: Order) -> Iterator[bytes]:
    """Return the file, block by block. Raises `Invalid`, `Forbidden`, `StoreUnavailable`; then it is incomplete."""
    found = parse_export(order.records, MultiDict(order.parameters), reveal=order.reveal)
    if order.records == REDIAL:
        return router.file(File(REDIAL, found.question))
    has_body = order.records == "deliveries" and order.format == "ndjson" and order.reveal
    shown = columns(RECORDS[order.records], found.fields, body=has_body)
    if order.records == "outcomes":
        return _outcomes(router, order, found, shown)
    return _deliveries(settings, database, order, found, shown)


def _outcomes(router: QueryRouter, order: Order, found: ExportQuery, shown: Sequence[Column]) -> Iterator[bytes]:
    names = [column.name for column in shown]
    if order.format != "xlsx":
        return router.file(File(order.format, found.question, names, order.reveal, found.raw))
    rows = csv.read(router.file(File("csv", found.question, names, order.reveal, raw=True)))
    next(rows)  # the header
    return xlsx.blocks(rows, shown)


def _deliveries(
    settings: Settings, database: Database, order: Order, found: ExportQuery, shown: Sequence[Column]
) -> Iterator[bytes]:
    records = _records(database, order, found, shown)
    if order.format == "ndjson":
        return ndjson.lines(records)
    rows = (_texts(record) for record in records)
    if order.format == "xlsx":
        return xlsx.blocks(rows, shown)
    if order.format == "parquet":
        from app.analytics import parquet  # it loads DuckDB, which the other formats do not need

        return parquet.blocks(csv.lines(rows, shown, raw=True), shown, 16 * settings.max_body_bytes)
    return _with_header(csv.lines(rows, shown, found.raw), shown)


def _with_header(lines: Iterable[bytes], shown: Sequence[Column]) -> Iterator[bytes]:
    yield csv.header([column.name for column in shown])
    yield from lines


def _records(database: Database, order: Order, found: ExportQuery, shown: Sequence[Column]) -> Iterator[Row]:
    """Yield deliveries as the query API shows them, with the requested columns in their order."""
    names = [column.name for column in shown]
    schema = RECORDS[order.records](reveal=order.reveal, only=[name for name in names if name != BODY])
    selected = [*schema.fields, *(["body"] if BODY in names else [])]
    for row in each(database, found.question, selected, SORT_SECONDS):
        record = schema.record(row)
        if BODY in names:
            record[BODY] = b64encode(row["body"]).decode()
        yield {name: record[name] for name in names}


def _texts(record: Row) -> Texts:
    return [_text(value) for value in record.values()]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json_text(value)


def main() -> None:
    """Read an order as JSON from stdin and write its file to stdout. The argument is the web worker's process id."""
    parent = int(sys.argv[1])
    os.nice(19)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    order = json.load(sys.stdin)
    settings = from_environment()
    try:
        database = questions_database(settings, connections=2)
        journal = Database(settings.database_url, connections=1)
        copy = assembly.remote(settings, journal)  # of the service, since the file is never opened here
        router = QueryRouter(database, journal, copy)
        for block in export(settings, database, router, Order(**order)):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(1)
    except PlumError as error:
        _complain(str(error), error.detail)
    except Exception as error:  # noqa: BLE001
        _complain("an unexpected failure", without_values(error))


def _complain(public: str, detail: str) -> NoReturn:
    """Exit with a message: its last line is for the client, the lines before it for the log."""
    sys.exit(f"{detail}\n{public}")


def _end_with(parent: int) -> None:
    """End when the worker does: a killed worker cannot end its exports."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
