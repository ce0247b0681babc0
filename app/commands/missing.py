"""The commands for missing results: `missing`, `reconcile`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click
from werkzeug.datastructures import MultiDict

from app import assembly
from app.auditing import log_command
from app.commands.context import opened
from app.store import schema_version
from app.store.database import questions_database
from app.terminal import Duration, FilterCommand, as_json, example, pairs_of, print_rows, print_values, say
from app.web.filters import MissingSchema, parse
from app.web.schemas import ExpectedCallSchema

_filters = click.argument("filters", nargs=-1, metavar="[FIELD=VALUE]...")
_grace = click.option(
    "--grace",
    type=Duration(),
    default="15m",
    show_default=True,
    help="How long after its window a result may come.",
)


@click.command(cls=FilterCommand)
@_filters
@_grace
@as_json
@example("missing batch=spring")
def missing(filters: tuple[str, ...], grace: timedelta, *, as_json: bool) -> None:
    """Count expected, received and missing results.

    Counts are by integration and batch; filters are those of expected calls. `received` includes those `polled`.
    """
    with opened() as (settings, database):
        schema_version.check(database)
        router = assembly.create_query_router(settings, questions_database(settings))
        groups = assembly.missing(settings, database, router, grace)(_question(filters))
    print_rows([counts._asdict() for counts in groups], as_json=as_json)


@click.command(cls=FilterCommand)
@_filters
@_grace
@as_json
@example("reconcile integration=reminders --grace 30m")
def reconcile(filters: tuple[str, ...], grace: timedelta, *, as_json: bool) -> None:
    """Ask Plum for the results that are missing.

    Asks for those past their window and the grace; filters are those of expected calls.

    `serve` does so by itself. Prints how many results arrived (received, polled) or did not: running,
    unknown_to_plum, refused, not_reached (Plum does not respond), not_asked (no call id, DEV, or no account is
    configured), not_understood (the response does not parse).
    """
    with opened() as (settings, database):
        schema_version.check(database)
        log_command(database, "reconcile", pairs_of(filters))
        results = assembly.create_reconciler(settings, database).all_of(_question(filters), grace)
    if not results and not as_json:
        say("no result is missing past its window and the grace")
    print_values(dict(sorted(results.items())), as_json=as_json)
    if results["not_reached"]:
        raise click.ClickException("Plum did not answer for all; see above, and try again later")


def _question(filters: tuple[str, ...]) -> Any:
    return parse(MultiDict(pairs_of(filters)), MissingSchema.about(ExpectedCallSchema)).question
