"""The command `import`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click

from app import assembly
from app.auditing import log_command
from app.commands.context import patient_database
from app.config import from_environment
from app.intake.importing import Import, Line
from app.store.integrations import integrations_by_name
from app.store.records import stored_deliveries
from app.terminal import as_json, complain, example, print_values

MAX_COMPLAINTS = 100
LINES_A_STEP = 1000  # lines between two updates of the progress bar


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(dir_okay=False, allow_dash=True))
@as_json
@example("import deliveries.ndjson")
def import_command(files: tuple[str, ...], *, as_json: bool) -> None:
    """Import deliveries from NDJSON.

    `-` is standard input. Deliveries that are stored already are skipped.

    Each line is one JSON object with the field names of the delivery record: integration and body (or body_base64)
    are required; received_at, content_type, reference, batch, headers, query, remote_addr and id are optional.
    """
    if missing := [name for name in files if name != "-" and not os.access(name, os.R_OK)]:
        raise click.UsageError(f"{missing[0]} cannot be read")
    settings = from_environment()
    database = patient_database(settings)
    log_command(database, "import", [("files", str(len(files)))])
    complaints = _Complaints()
    importer = Import(
        assembly.recorder(database, settings),
        partial(stored_deliveries, database),
        integrations_by_name(database),
        complaints.add,
    )
    size = sum(Path(name).stat().st_size for name in files if name != "-")
    with click.progressbar(length=size, label="importing", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        importer.run(line for name in files for line in _lines(name, bar.update))
    complaints.finish()
    print_values(dict(sorted(importer.counts.items())), as_json=as_json)
    if importer.counts["bad"]:
        raise SystemExit(1)


class _Complaints:
    """Prints one line for each bad line, up to `MAX_COMPLAINTS`, then their number."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, text: str) -> None:
        self._count += 1
        if self._count <= MAX_COMPLAINTS:
            complain(text)

    def finish(self) -> None:
        if self._count > MAX_COMPLAINTS:
            complain(f"{self._count - MAX_COMPLAINTS} more lines are bad")


def _lines(name: str, advance: Callable[[int], None]) -> Iterator[Line]:
    if name == "-":
        yield from _numbered(name, sys.stdin.buffer, lambda _: None)
        return
    with Path(name).open("rb") as file:
        yield from _numbered(name, file, advance)


def _numbered(name: str, lines: BinaryIO | Iterable[bytes], advance: Callable[[int], None]) -> Iterator[Line]:
    size = 0
    for number, text in enumerate(lines, start=1):
        yield Line(name, number, text)
        size += len(text)
        if number % LINES_A_STEP == 0:
            advance(size)
            size = 0
    advance(size)
