"""An export, from a question to the last byte of its file.

`plum-outcomes export` runs it, and the web worker runs it as a process of its own (`python -m app.exporting`), at the
lowest priority: so an export takes nothing from the callbacks that come meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from werkzeug.datastructures import MultiDict

from app.config import Settings, from_environment
from app.errors import PlumError
from app.exports import FORMATS, csv, redial
from app.exports.columns import Batch, Column, Mask, Texts
from app.logs import without_values
from app.pace import Pace
from app.store.arrivals import Arrivals
from app.store.database import Database, questions_database
from app.store.exports.lines import lines
from app.store.exports.numbers import numbers
from app.store.exports.texts import texts
from app.web.exports import BODY, RECORDS, REDIAL, Wanted, columns, wanted
from app.web.masking import masks

PATIENCE_SECONDS = 86_400.0  # for the store to sort a question's rows, however many
LOOK_SECONDS = 0.5

Write = Callable[[bytes], Any]
Advance = Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class Order:
    """What to export: `records` outcomes, deliveries or redial, `parameters` as in the list's query string."""

    records: str
    format: str
    parameters: list[tuple[str, str]]
    reveal: bool


def export(settings: Settings, database: Database, order: Order, write: Write, advance: Advance) -> None:
    """Write the file piece by piece; `advance` is told of rows as they pass.

    Raises `Invalid`, `Forbidden`, `StoreUnavailable`; then the file is not whole.
    """
    found = wanted(order.records, MultiDict(order.parameters), reveal=order.reveal)
    if order.records == REDIAL:
        for block in redial.blocks(numbers(database, found.question, PATIENCE_SECONDS)):
            write(block)
        return
    body = order.records == "deliveries" and order.format == "ndjson" and order.reveal
    shown = columns(RECORDS[order.records], found.fields, body=body)
    hidden = {} if order.reveal else masks()
    if order.format == "csv" and _is_plain(shown):
        blocks = _lines(database, found, shown, hidden, advance)
    else:
        blocks = FORMATS[order.format].blocks(_batches(database, found, shown, hidden, advance), shown, found.raw)
    for block in blocks:
        write(block)


def _is_plain(shown: list[Column]) -> bool:
    """Whether the database itself can write the lines."""
    return len(shown) > 1 and BODY not in [one.name for one in shown]


def _lines(
    database: Database, found: Wanted, shown: list[Column], hidden: Mapping[str, Mask], advance: Advance
) -> Iterator[bytes]:
    yield csv.header(shown)
    names = [one.name for one in shown]
    for rows, text in lines(database, found.question, names, found.raw, hidden, PATIENCE_SECONDS):
        yield text
        advance(rows)


def _batches(
    database: Database, found: Wanted, shown: list[Column], hidden: Mapping[str, Mask], advance: Advance
) -> Iterator[Batch]:
    names = [one.name for one in shown]
    asked = ["body" if name == BODY else name for name in names]
    for batch in texts(database, found.question, asked, PATIENCE_SECONDS):
        yield [_shown(one, hidden.get(name)) for name, one in zip(names, batch, strict=True)]
        advance(len(batch[0]))


def _shown(found: Texts, mask: Mask | None) -> Texts:
    return [mask(text) for text in found] if mask else found


def main() -> None:
    """For the web worker whose process id is the argument: the order comes as JSON, the file leaves by stdout."""
    parent = int(sys.argv[1])
    os.nice(19)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    order = json.load(sys.stdin)
    settings = from_environment()
    try:
        database = questions_database(settings, connections=2)  # for its rows, and for looking who else comes
        pace = Pace(Arrivals(database).are_many)
        export(settings, database, Order(**order), sys.stdout.buffer.write, lambda rows: pace.rest())
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(1)
    except PlumError as error:
        _complain(str(error), error.detail)
    except Exception as error:  # noqa: BLE001
        _complain("an unexpected failure", without_values(error))


def _complain(public: str, detail: str) -> NoReturn:
    """The last line is for whoever asked, those before it for the log."""
    sys.exit(f"{detail}\n{public}")


def _end_with(parent: int) -> None:
    """A worker that is killed can tell nobody to end."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
