"""The command `export`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, cast

import click
from werkzeug.datastructures import MultiDict

from app.assembly import create_query_router
from app.auditing import log_command
from app.commands.context import patient_database
from app.config import from_environment
from app.exporting import Order, export
from app.store.database import questions_database
from app.terminal import FilterCommand, example, harmless_lines, pairs_of
from app.web.errors import Forbidden
from app.web.exports import CONTENT_TYPES, parse_export

BINARY = ("xlsx", "parquet")


@click.command("export", cls=FilterCommand)
@click.argument("filters", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--format", "form", type=click.Choice(list(CONTENT_TYPES)), required=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, which appears once it is complete; otherwise to stdout.",
)
@click.option(
    "--deliveries", is_flag=True, help="Export deliveries instead; NDJSON with --reveal can be imported again."
)
@click.option("--reveal", is_flag=True, help="Show phone numbers unmasked.")
@example("export --format csv --out march.csv since=2026-03-01 until=2026-04-01 status=completed")
def export_command(filters: tuple[str, ...], form: str, out: Path | None, *, deliveries: bool, reveal: bool) -> None:
    """Export all outcomes that match the filters.

    Filters, sort and fields are the same as the API's.

    In CSV, a text cell that a spreadsheet would run as a formula begins with ', unless raw=true.
    """
    if out is None and sys.stdout.isatty() and form in BINARY:
        raise click.UsageError(f"{form} is nothing for a terminal; add --out FILE")
    order = Order("deliveries" if deliveries else "outcomes", form, pairs_of(filters), reveal)
    settings = from_environment()
    if reveal:
        # Invalid parameters must not be logged.
        parse_export(order.records, MultiDict(order.parameters), reveal=True)
        log_command(patient_database(settings), "export --reveal", _details(order))
    database = questions_database(settings)
    with (
        _output(out) as file,
        click.progressbar(
            length=0, label="exporting, bytes", file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True
        ) as bar,
    ):
        write = _write_to_terminal if out is None and sys.stdout.isatty() else file.write
        try:
            for block in export(settings, database, create_query_router(settings, database), order):
                write(block)
                bar.update(len(block))
        except Forbidden:
            raise click.UsageError("this would give masked numbers away; add --reveal") from None
        file.flush()


def _details(order: Order) -> list[tuple[str, str]]:
    return [("records", order.records), ("format", order.format), *order.parameters]


def _write_to_terminal(block: bytes) -> None:
    """Write to the terminal without the control sequences that a sender may have put into a value."""
    click.echo(harmless_lines(block.decode()), nl=False)


@contextmanager
def _output(out: Path | None) -> Iterator[BinaryIO]:
    """Open standard output, or a temporary file that is renamed to `out` once it is complete."""
    if out is None:
        yield sys.stdout.buffer
        return
    try:
        if out.exists() and not out.is_file():  # a device or a pipe, which must not be replaced by a file
            with out.open("wb") as device:
                yield device
            return
        out = out.resolve()
        with NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", delete=False) as file:
            unfinished = Path(file.name)
            try:
                yield cast(BinaryIO, file)
                os.fsync(file.fileno())
                unfinished.rename(out)
            finally:
                unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {error.strerror}") from error
