"""The commands that query records: `outcomes`, `deliveries`, `summary`, `audit`, `drift`."""

from __future__ import annotations

from typing import Any

import click
from werkzeug.datastructures import MultiDict

from app.assembly import create_query_router
from app.auditing import log_command
from app.commands.context import patient_database
from app.config import from_environment
from app.store.database import questions_database
from app.terminal import FilterCommand, as_json, example, pairs_of, print_json, print_rows
from app.web.aggregates import json_figures
from app.web.drift import DriftQuestion, DriftSchema
from app.web.errors import Forbidden
from app.web.filters import ListSchema, QuestionSchema, SummarySchema, parse, permit
from app.web.schemas import AuditSchema, DeliverySchema, OutcomeSchema, RecordSchema

filters = click.argument("filters", nargs=-1, metavar="[FIELD=VALUE]...")
reveal = click.option("--reveal", is_flag=True, help="Show phone numbers unmasked.")


@click.command(cls=FilterCommand)
@filters
@reveal
@as_json
@example("outcomes status=completed,failed since=2026-03-01 sort=-duration_seconds limit=20")
def outcomes(filters: tuple[str, ...], *, reveal: bool, as_json: bool) -> None:
    """List outcomes.

    The same filters, sort and limit as the API's, as FIELD=VALUE or --FIELD VALUE.
    """
    columns = ["ended_at", "integration", "phone_number", "status", "disposition", "answered_by", "attempts", "id"]
    _print_page(filters, OutcomeSchema, columns, reveal, as_json)


@click.command(cls=FilterCommand)
@filters
@reveal
@as_json
@example("deliveries verdict=quarantined since=2026-03-01")
def deliveries(filters: tuple[str, ...], *, reveal: bool, as_json: bool) -> None:
    """List deliveries.

    The same filters, sort and limit as the API's, as FIELD=VALUE or --FIELD VALUE.
    """
    columns = ["received_at", "integration", "product", "verdict", "reason", "size", "id", "outcome_id"]
    _print_page(filters, DeliverySchema, columns, reveal, as_json)


@click.command(cls=FilterCommand)
@filters
@reveal
@as_json
@example("summary group_by=day,product since=2026-03-01 tz=America/New_York")
def summary(filters: tuple[str, ...], *, reveal: bool, as_json: bool) -> None:
    """Show counts, rates, attempts and durations of outcomes.

    The same filters, group_by and tz as the API's.
    """
    settings = from_environment()
    query = _parse_query(filters, SummarySchema.about(OutcomeSchema), reveal)
    if reveal:
        log_command(patient_database(settings), "summary --reveal", pairs_of(filters))
    router = create_query_router(settings, questions_database(settings))
    rows = router.summarise(query.question, query.group_by, query.zone)
    print_rows([_rounded(json_figures(row), as_json) for row in rows], as_json=as_json)


@click.command(cls=FilterCommand)
@filters
@as_json
@example("audit since=2026-03-01 who=dashboard")
def audit(filters: tuple[str, ...], *, as_json: bool) -> None:
    """List who saw, exported or changed what, newest first.

    Lists who saw phone numbers or bodies, exported, or changed something; filters as the API's.
    """
    _print_page(filters, AuditSchema, ["at", "who", "what", "asked", "record_id", "remote_addr"], False, as_json)


@click.command(cls=FilterCommand)
@filters
@reveal
@as_json
@example("drift since=2026-03-01 kind=word,field")
def drift(filters: tuple[str, ...], *, reveal: bool, as_json: bool) -> None:
    """List words, fields and types unknown on arrival.

    The newest come first; filters: since, tz, kind, product, integration.
    """
    settings = from_environment()
    query = parse(MultiDict(pairs_of(filters)), DriftQuestion())
    if reveal:
        log_command(patient_database(settings), "drift --reveal", pairs_of(filters))
    rows = create_query_router(settings, questions_database(settings)).drift(query.since, query.among)
    schema = DriftSchema()
    print_rows([schema.record(row, reveal=reveal) for row in rows], as_json=as_json)


def _rounded(row: dict[str, Any], is_exact: bool) -> dict[str, Any]:
    """Round floats to three digits for people, unless `is_exact`."""
    if is_exact:
        return row
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


def _print_page(
    filters: tuple[str, ...], kind: type[RecordSchema], columns: list[str], reveal: bool, as_json: bool
) -> None:
    settings = from_environment()
    query = _parse_query(filters, ListSchema.about(kind), reveal)
    if reveal:
        log_command(patient_database(settings), f"{kind.records} --reveal", pairs_of(filters))
    router = create_query_router(settings, questions_database(settings))
    page = router.page(query.question, query.fields)
    schema = kind(reveal=reveal, only=query.fields)
    records = [schema.record(row) for row in page.rows]
    if as_json:
        print_json(records)
    else:
        print_rows([{name: record[name] for name in query.fields or columns} for record in records], as_json=False)
    if page.more_after:
        click.echo(f"(the first {len(records)}; there are more: limit=…, since=…, until=…)", err=True)
    total = router.count(page, query.question, query.count)
    if total.value is not None:
        click.echo(f"({total.value} in all, {total.kind})", err=True)


def _parse_query(filters: tuple[str, ...], schema: QuestionSchema, reveal: bool) -> Any:
    query = parse(MultiDict(pairs_of(filters)), schema)
    try:
        permit(query.question, reveal=reveal)
    except Forbidden:
        raise click.UsageError("asking so would give masked phone numbers away; add --reveal") from None
    return query
