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
from app.config import from_environment
from app.exporting import Order, export
from app.store.database import Database, questions_database
from app.terminal import Asking, example, harmless_lines, pairs_of
from app.web.errors import Forbidden
from app.web.exports import CONTENT_TYPES, wanted

BINARY = ("xlsx", "parquet")


@click.command("export", cls=Asking)
@click.argument("filters", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--format", "form", type=click.Choice(list(CONTENT_TYPES)), required=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file that appears once it is whole; else stdout.",
)
@click.option("--deliveries", is_flag=True, help="Deliveries instead; with --reveal NDJSON can be imported again.")
@click.option("--reveal", is_flag=True, help="Show phone numbers whole.")
@example("export --format csv --out march.csv since=2026-03-01 until=2026-04-01 status=completed")
def export_command(filters: tuple[str, ...], form: str, out: Path | None, *, deliveries: bool, reveal: bool) -> None:
    """Write all outcomes that the filters choose; the same filters, sort and fields as the API's.

    In CSV a text cell that a spreadsheet would run begins with ', but for raw=true.
    """
    if out is None and sys.stdout.isatty() and form in BINARY:
        raise click.UsageError(f"{form} is nothing for a terminal; add --out FILE")
    order = Order("deliveries" if deliveries else "outcomes", form, pairs_of(filters), reveal)
    settings = from_environment()
    if reveal:
        wanted(order.records, MultiDict(order.parameters), reveal=True)  # nothing is logged that was not understood
        log_command(Database(settings.database_url), "export --reveal", _told(order))
    database = questions_database(settings)
    with (
        _whole(out) as file,
        click.progressbar(
            length=0, label="exporting, bytes", file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True
        ) as bar,
    ):
        write = _write_shown if out is None and sys.stdout.isatty() else file.write
        try:
            for block in export(settings, database, create_query_router(settings, database), order):
                write(block)
                bar.update(len(block))
        except Forbidden:
            raise click.UsageError("this would give masked numbers away; add --reveal") from None
        file.flush()


def _told(order: Order) -> list[tuple[str, str]]:
    return [("records", order.records), ("format", order.format), *order.parameters]


def _write_shown(block: bytes) -> None:
    """On a terminal, which obeys what a sender may have put into a value."""
    click.echo(harmless_lines(block.decode()), nl=False)


@contextmanager
def _whole(out: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that gets its name once all of it is written."""
    if out is None:
        yield sys.stdout.buffer
        return
    try:
        if out.exists() and not out.is_file():  # a device or a pipe, whose name is not to be given to a file
            with out.open("wb") as there:
                yield there
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
