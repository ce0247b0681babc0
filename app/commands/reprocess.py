"""The command `reprocess`: parse stored deliveries again with today's normaliser."""

from __future__ import annotations

import sys
from uuid import UUID

import click
from werkzeug.datastructures import MultiDict

from app import assembly
from app.auditing import log_command
from app.commands.context import patient_database
from app.config import from_environment
from app.errors import StoreError
from app.store import schema_version
from app.store.reprocess import Report, reprocess
from app.terminal import FilterCommand, as_json, example, pairs_of, print_json, print_rows, print_values
from app.web.filters import QuestionSchema, parse
from app.web.schemas import DeliverySchema

COUNTS = ("deliveries", "outcomes", "changed", "made", "removed")


@click.command("reprocess", cls=FilterCommand)
@click.argument("filters", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--dry-run", is_flag=True, help="Change nothing, only show what would differ.")
@click.option(
    "--after", type=click.UUID, metavar="ID", help="Continue after this delivery, where a run was interrupted."
)
@as_json
@example("reprocess --dry-run since=2026-03-01 integration=reminders")
def reprocess_command(filters: tuple[str, ...], after: UUID | None, *, dry_run: bool, as_json: bool) -> None:
    """Parse stored deliveries again with today's normaliser.

    Shows for each field how many outcomes differ.

    Filters are those of deliveries. Outcomes with pruned deliveries do not change (pruned). The command may run
    while callbacks arrive; a second run changes nothing more.
    """
    schema = QuestionSchema.about(DeliverySchema)
    question = schema.question(parse(MultiDict(pairs_of(filters)), schema))
    settings = from_environment()
    database = patient_database(settings)
    schema_version.check(database)
    if not dry_run:
        log_command(database, "reprocess", pairs_of(filters))
    report = Report(last=after)
    bar = click.progressbar(
        length=0, label="reading again", file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True
    )
    try:
        with bar:
            for report in reprocess(database, assembly.reader(settings), question, after=after, dry_run=dry_run):
                bar.update(report.deliveries - bar.pos)
    except (KeyboardInterrupt, StoreError) as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else error.detail
        go_on = f"; go on with --after {report.last}" if report.last else ""
        raise click.ClickException(f"{reason}; {report.deliveries} deliveries are done{go_on}") from error
    _print(report, as_json)


def _print(report: Report, as_json: bool) -> None:
    counts = {name: getattr(report, name) for name in COUNTS} | {"pruned": len(report.left)}
    if as_json:
        print_json({**counts, "fields": dict(report.fields.most_common()), "verdicts": dict(report.verdicts)})
        return
    print_values(counts, as_json=False)
    if report.fields:
        print_rows([{"field": name, "outcomes": count} for name, count in report.fields.most_common()], as_json=False)
