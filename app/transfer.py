"""The commands that move much at once: `export` and `import`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, cast

import click
from werkzeug.datastructures import MultiDict

from app import factory
from app.auditing import log_command
from app.config import from_environment
from app.exporting import Order, export
from app.exports import FORMATS
from app.intake.importing import Import, Line
from app.pace import Pace
from app.store.arrivals import Arrivals
from app.store.database import Database
from app.store.integrations import integrations_by_name
from app.store.known import known_deliveries
from app.terminal import Asking, as_json, example, pairs_of, print_values
from app.web.errors import Forbidden
from app.web.exports import wanted

MAX_COMPLAINTS = 100
LINES_A_STEP = 1000  # of the progress shown


@click.command("export", cls=Asking)
@click.argument("filters", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--format", "form", type=click.Choice(list(FORMATS)), required=True)
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
    order = Order("deliveries" if deliveries else "outcomes", form, pairs_of(filters), reveal)
    settings = from_environment()
    if reveal:
        wanted(order.records, MultiDict(order.parameters), reveal=True)  # nothing is logged that was not understood
        log_command(settings, Database(settings.database_url), "export --reveal", _told(order))
    database = factory.questions_database(settings)
    with (
        _whole(out) as file,
        click.progressbar(
            length=0, label="exporting", file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True
        ) as bar,
    ):
        pace = Pace(Arrivals(database).are_many)

        def advance(rows: int) -> None:
            bar.update(rows)
            pace.rest()

        try:
            export(settings, database, order, file.write, advance)
        except Forbidden:
            raise click.UsageError("this would give masked numbers away; add --reveal") from None
        file.flush()


def _told(order: Order) -> list[tuple[str, str]]:
    return [("records", order.records), ("format", order.format), *order.parameters]


@contextmanager
def _whole(out: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that gets its name once all of it is written."""
    if out is None:
        yield sys.stdout.buffer
        return
    try:
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


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(dir_okay=False, allow_dash=True))
@as_json
@example("import deliveries.ndjson")
def import_command(files: tuple[str, ...], *, as_json: bool) -> None:
    """Bring deliveries in from NDJSON, `-` for standard input; what is there already adds nothing.

    One JSON object a line, named as in the delivery record: integration and body (or body_base64) are needed;
    received_at, content_type, reference, batch, headers, query, remote_addr and id may be there.
    """
    if missing := [name for name in files if name != "-" and not os.access(name, os.R_OK)]:
        raise click.UsageError(f"{missing[0]} cannot be read")
    settings = from_environment()
    database = Database(settings.database_url)
    log_command(settings, database, "import", [("files", str(len(files)))])
    complaints = _Complaints()
    bringing = Import(
        factory.recorder(database, settings),
        partial(known_deliveries, database),
        integrations_by_name(database),
        complaints.add,
    )
    size = sum(Path(name).stat().st_size for name in files if name != "-")
    with click.progressbar(length=size, label="importing", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        bringing.run(line for name in files for line in _lines(name, bar.update))
    complaints.finish()
    print_values(dict(sorted(bringing.counts.items())), as_json=as_json)
    if bringing.counts["bad"]:
        raise SystemExit(1)


class _Complaints:
    """One line for each bad line, as far as somebody will read them."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, text: str) -> None:
        self._count += 1
        if self._count <= MAX_COMPLAINTS:
            click.echo(f"plum-outcomes: {text}", err=True)

    def finish(self) -> None:
        if self._count > MAX_COMPLAINTS:
            click.echo(f"plum-outcomes: {self._count - MAX_COMPLAINTS} more lines are bad", err=True)


def _lines(name: str, advance: Callable[[int], None]) -> Iterator[Line]:
    if name == "-":
        yield from _numbered(name, sys.stdin.buffer, lambda _: None)
        return
    with Path(name).open("rb") as file:
        yield from _numbered(name, file, advance)


def _numbered(name: str, lines: BinaryIO | Iterable[bytes], advance: Callable[[int], None]) -> Iterator[Line]:
    read = 0
    for number, text in enumerate(lines, start=1):
        yield Line(name, number, text)
        read += len(text)
        if number % LINES_A_STEP == 0:
            advance(read)
            read = 0
    advance(read)
