"""The command line: `plum-outcomes`. Every command ends with 0 only on success; errors are one line on stderr."""

from __future__ import annotations

import json
import logging.config
import os
import re
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from werkzeug.datastructures import MultiDict

from app import doctor as checks
from app import factory, logs, reprocessing, serving, transfer
from app.auditing import log_command
from app.config import Settings, from_environment
from app.intake.spool import Spool
from app.model import Product, Scope
from app.plum import simulator
from app.store import integrations, pages, schema_version, tokens
from app.store.database import Database
from app.store.drift import list_drift
from app.store.summary import summarise
from app.terminal import Asking, Duration, OneLine, as_json, example, pairs_of, print_json, print_rows, print_values
from app.web.errors import Forbidden
from app.web.filters import ListSchema, QuestionSchema, SummarySchema, asked, permit
from app.web.novel import DriftQuestion, DriftSchema
from app.web.schemas import AuditSchema, DeliverySchema, OutcomeSchema, RecordSchema
from app.web.totals import shown_figures


@contextmanager
def opened() -> Iterator[tuple[Settings, Database]]:
    settings = from_environment()
    database = Database(settings.database_url)
    try:
        yield settings, database
    finally:
        database.close()


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="plum-outcomes")
def main() -> None:
    """Receives Plum Voice call results, keeps them, and answers questions about them."""
    os.umask(0o077)  # what is kept holds phone numbers


# --- running


@main.command()
@click.option("--bind", default="127.0.0.1:8000", show_default=True, help="HOST:PORT to listen on.")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Web processes.")
@click.option(
    "--welcome",
    is_flag=True,
    help="First bring the schema up to date, make an integration and a token, and show them.",
)
@example("serve --bind 0.0.0.0:8000 --workers 4")
def serve(bind: str, workers: int, *, welcome: bool) -> None:
    """Serve until stopped: gunicorn, with settings from the environment."""
    with opened() as (settings, database):
        if welcome:
            schema_version.migrate(database)
        serving.check_schema(settings, database)
        Spool(settings.spool_dir).check()
        factory.questions_database(settings).close()
        listening = serving.listen(bind)
        serving.remember_address(settings, bind)
        if welcome:
            click.echo(serving.welcome(settings, database))
    serving.run_gunicorn(listening, workers)


@main.command()
@example("migrate")
def migrate() -> None:
    """Bring the store's schema up to date."""
    with opened() as (_, database):
        schema_version.migrate(database)
    click.echo("the schema is up to date")


@main.command()
@click.option("--while-parent", type=int, metavar="PID", help="End when this parent process does.")
@example("housekeeping")
def housekeeping(while_parent: int | None) -> None:
    """Drain the spool until stopped. `serve` starts this by itself; a second one waits for the first to end."""
    settings = from_environment()
    logging.config.dictConfig(logs.config(settings.log_format))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    chores = threading.Thread(target=factory.create_housekeeping(settings).run, args=(stop,), daemon=True)
    chores.start()
    while chores.is_alive() and not stop.wait(0.5):
        if while_parent and os.getppid() != while_parent:
            stop.set()
    chores.join(timeout=5)


@main.command()
@as_json
@example("doctor")
def doctor(*, as_json: bool) -> None:
    """Check the whole installation and say what to mend."""
    found = checks.examine(os.environ)
    if as_json:
        print_json([{"part": check.part, "ok": check.ok, "says": check.says} for check in found])
    else:
        for check in found:
            click.echo(f"{'ok  ' if check.ok else 'MEND'}  {check.part}: {check.says}")
    if not all(check.ok for check in found):
        raise SystemExit(1)


# --- integrations and tokens


@main.group()
def integration() -> None:
    """The senders, each with its own result_url."""


@integration.command("add")
@click.argument("name")
@click.option(
    "--product",
    type=click.Choice([*(product.value for product in Product), "auto"]),
    default="auto",
    show_default=True,
)
@as_json
@example("integration add reminders --product fuse")
def add_integration(name: str, product: str, *, as_json: bool) -> None:
    """Make an integration and print its result_url, this once."""
    declared = None if product == "auto" else Product(product)
    with opened() as (settings, database):
        log_command(settings, database, "integration add", [("name", _name(name)), ("product", product)])
        key = integrations.add_integration(database, name, declared, datetime.now(UTC))
    _print_integration(settings, name, declared, key, as_json)


@integration.command("list")
@as_json
@example("integration list")
def list_integrations(*, as_json: bool) -> None:
    """List the integrations; keys are stored hashed and cannot be shown."""
    with opened() as (_, database):
        print_rows(integrations.list_integrations(database), as_json=as_json)


@integration.command("rotate")
@click.argument("name")
@click.option("--grace", type=Duration(), default="7d", show_default=True, help="How long the old URL still works.")
@as_json
@example("integration rotate reminders --grace 12h")
def rotate_integration(name: str, grace: timedelta, *, as_json: bool) -> None:
    """Give an integration a new URL."""
    with opened() as (settings, database):
        log_command(settings, database, "integration rotate", [("name", name), ("grace", str(grace))])
        rotated, key = integrations.rotate_integration(database, name, grace, datetime.now(UTC))
    _print_integration(settings, name, rotated.product, key, as_json)


@integration.command("disable")
@click.argument("name")
@example("integration disable reminders")
def disable_integration(name: str) -> None:
    """Answer 404 under its URLs from now on; what it sent stays."""
    with opened() as (settings, database):
        log_command(settings, database, "integration disable", [("name", name)])
        integrations.disable_integration(database, name, datetime.now(UTC))
    click.echo(f"{name} is disabled")


@main.group()
def token() -> None:
    """Analysts' API tokens."""


@token.command("add")
@click.argument("name")
@click.option("--scope", type=click.Choice([scope.value for scope in Scope]), default="read", show_default=True)
@as_json
@example("token add dashboard --scope read")
def add_token(name: str, scope: str, *, as_json: bool) -> None:
    """Make a token and print it, this once."""
    with opened() as (settings, database):
        log_command(settings, database, "token add", [("name", _name(name)), ("scope", scope)])
        secret = tokens.add_token(database, name, Scope(scope), datetime.now(UTC))
    if as_json:
        print_json({"name": name, "scope": scope, "token": secret})
    else:
        click.echo(secret)


@token.command("list")
@as_json
@example("token list")
def list_tokens(*, as_json: bool) -> None:
    """List the tokens' names and scopes, and when each was last used (to about a minute)."""
    with opened() as (_, database):
        print_rows(tokens.list_tokens(database), as_json=as_json)


@token.command("revoke")
@click.argument("name")
@example("token revoke dashboard")
def revoke_token(name: str) -> None:
    """Let a token open nothing from now on."""
    with opened() as (settings, database):
        log_command(settings, database, "token revoke", [("name", name)])
        tokens.revoke_token(database, name, datetime.now(UTC))
    click.echo(f"{name} is revoked")


# --- questions

filters = click.argument("filters", nargs=-1, metavar="[FIELD=VALUE]...")
reveal = click.option("--reveal", is_flag=True, help="Show phone numbers whole.")


@main.command(cls=Asking)
@filters
@reveal
@as_json
@example("outcomes status=completed,failed since=2026-03-01 sort=-duration_seconds limit=20")
def outcomes(filters: tuple[str, ...], *, reveal: bool, as_json: bool) -> None:
    """List outcomes; the same filters, sort and limit as the API's, as FIELD=VALUE or --FIELD VALUE."""
    columns = ["ended_at", "integration", "phone_number", "status", "disposition", "answered_by", "attempts", "id"]
    _print_page(filters, OutcomeSchema, columns, reveal, as_json)


@main.command(cls=Asking)
@filters
@reveal
@as_json
@example("deliveries verdict=quarantined since=2026-03-01")
def deliveries(filters: tuple[str, ...], *, reveal: bool, as_json: bool) -> None:
    """List deliveries; the same filters, sort and limit as the API's, as FIELD=VALUE or --FIELD VALUE."""
    columns = ["received_at", "integration", "product", "verdict", "reason", "size", "id", "outcome_id"]
    _print_page(filters, DeliverySchema, columns, reveal, as_json)


@main.command(cls=Asking)
@filters
@reveal
@as_json
@example("summary group_by=day,product since=2026-03-01 tz=America/New_York")
def summary(filters: tuple[str, ...], *, reveal: bool, as_json: bool) -> None:
    """Counts, rates, attempts and durations of outcomes; the same filters, group_by and tz as the API's."""
    wanted = _asked(filters, SummarySchema.about(OutcomeSchema), reveal)
    answers = factory.questions_database(from_environment())
    rows = summarise(answers, wanted.question, wanted.group_by, wanted.zone)
    print_rows([_rounded(shown_figures(row), as_json) for row in rows], as_json=as_json)


@main.command(cls=Asking)
@filters
@as_json
@example("audit since=2026-03-01 who=dashboard")
def audit(filters: tuple[str, ...], *, as_json: bool) -> None:
    """List who saw phone numbers or bodies, exported, or changed something, newest first; filters as the API's."""
    _print_page(filters, AuditSchema, ["at", "who", "what", "asked", "record_id", "remote_addr"], False, as_json)


@main.command(cls=Asking)
@filters
@reveal
@as_json
@example("drift since=2026-03-01 kind=word,field")
def drift(filters: tuple[str, ...], *, reveal: bool, as_json: bool) -> None:
    """List words, fields and types that nobody knew when they came, newest first; filters: since, tz, kind, product,
    integration.
    """
    settings = from_environment()
    wanted = asked(MultiDict(pairs_of(filters)), DriftQuestion())
    if reveal:
        log_command(settings, Database(settings.database_url), "drift --reveal", pairs_of(filters))
    rows = list_drift(factory.questions_database(settings), wanted.since, wanted.among)
    schema, region = DriftSchema(), settings.default_region
    print_rows([schema.record(row, reveal=reveal, region=region) for row in rows], as_json=as_json)


def _rounded(row: dict[str, Any], exactly: bool) -> dict[str, Any]:
    """For people: a rate needs no sixteen digits."""
    if exactly:
        return row
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


def _print_page(
    filters: tuple[str, ...], kind: type[RecordSchema], columns: list[str], reveal: bool, as_json: bool
) -> None:
    settings = from_environment()
    wanted = _asked(filters, ListSchema.about(kind), reveal)
    if reveal:
        log_command(settings, Database(settings.database_url), f"{kind.records} --reveal", pairs_of(filters))
    page = pages.page(factory.questions_database(settings), wanted.question, wanted.fields)
    schema = kind(reveal=reveal, region=settings.default_region, only=wanted.fields)
    records = [schema.record(row) for row in page.rows]
    if as_json:
        print_json(records)
        return
    print_rows([{name: record[name] for name in wanted.fields or columns} for record in records], as_json=False)
    if page.more_after:
        click.echo(f"(the first {len(records)}; there are more: limit=…, since=…, until=…)", err=True)


def _asked(filters: tuple[str, ...], schema: QuestionSchema, reveal: bool) -> Any:
    wanted = asked(MultiDict(pairs_of(filters)), schema)
    try:
        permit(wanted.question, reveal=reveal)
    except Forbidden:
        raise click.UsageError("asking so would give masked phone numbers away; add --reveal") from None
    return wanted


main.add_command(transfer.export_command)
main.add_command(transfer.import_command)
main.add_command(reprocessing.reprocess_command)


# --- playing Plum


@main.command()
@click.option("--calls", type=click.IntRange(1), default=100, show_default=True)
@click.option(
    "--result-url",
    "urls",
    multiple=True,
    required=True,
    metavar="[PRODUCT=]URL",
    help="May be given several times.",
)
@click.option("--seed", type=int, help="Repeat exactly.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=16, show_default=True)
@click.option("--misbehave", is_flag=True, help="Also duplicates, late ones, garbage, shared call ids.")
@click.option(
    "--expect",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what was sent; a null ended_at only the receiver knows.",
)
@as_json
@example("simulate --calls 1000 --result-url http://127.0.0.1:8000/result/KEY --seed 7")
def simulate(
    calls: int,
    urls: tuple[str, ...],
    seed: int | None,
    concurrency: int,
    expect: Path | None,
    *,
    misbehave: bool,
    as_json: bool,
) -> None:
    """Play Plum: probe the URLs, then post realistic results. A URL without a product gets calls of all three."""
    # The base is when the first call is queued; its retries and the calls behind it take hours.
    base = simulator.BASE if seed is not None else datetime.now(UTC) - timedelta(days=1)
    seed = secrets.randbelow(2**31) if seed is None else seed
    try:
        targets = [simulator.Target.parse(url) for url in urls]
        for target in targets:
            simulator.probe(target)
    except (ValueError, simulator.ProbeFailed) as error:
        raise click.ClickException(str(error)) from error
    made = simulator.campaign(targets, calls, seed, misbehave=misbehave, base=base)
    garbage = simulator.noise(targets, calls, seed) if misbehave else []
    posts = sum(len(call.posts) for call in made) + len(garbage)
    with click.progressbar(length=posts, label="posting", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        summary = simulator.run(made, garbage, concurrency, bar.update, timeout=30)
    if expect:
        expect.write_text("".join(json.dumps(one) + "\n" for one in simulator.expectations(made)))
    print_values({"calls": len(made), "seed": seed, **summary.as_dict()}, as_json=as_json)
    if summary.acknowledged != summary.posted:
        raise click.ClickException(
            f"{summary.posted - summary.acknowledged} of {summary.posted} posts were not acknowledged"
        )


# --- printing


def _name(name: str) -> str:
    if not re.fullmatch(r"[\w][\w.\-]{0,63}", name):
        raise click.BadParameter(f"{name!r}: use 1 to 64 letters, digits, dots, dashes and underscores")
    return name


def _print_integration(settings: Settings, name: str, product: Product | None, key: str, as_json: bool) -> None:
    url = serving.result_url(settings, key)
    if as_json:
        print_json({"name": name, "product": product or "auto", "key": key, "result_url": url})
    else:
        click.echo(url)


if __name__ == "__main__":
    main()
