"""The command line: `plum-outcomes`. Every command ends with 0 only on success; errors are one line on stderr."""

from __future__ import annotations

import json
import logging.config
import os
import re
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import click
from werkzeug.datastructures import MultiDict

from app import doctor as checks
from app import factory, logs
from app.config import Settings, from_environment
from app.errors import PlumError, StoreUnavailable
from app.intake.known_keys import KnownKeys
from app.intake.spool import Spool
from app.model import Product, Scope
from app.plum import simulator
from app.store import integrations, questions, schema_version, tokens
from app.store.database import Database
from app.web.errors import Forbidden
from app.web.filters import question
from app.web.schemas import DeliverySchema, OutcomeSchema, RecordSchema

ROOT = Path(__file__).parent.parent
SAMPLE_BODY = (
    "phone_number=16175551234&message_reference=appt-42&call_id=112850593&result=Completed&callee_type=voice"
    "&attempts=1&last_attempt_timestamp=Mon%2C+19+Jul+2004+13%3A46%3A03+-0400&duration=37"
)
ADDRESS = "address"  # beside the spool: where `serve` listened last
_DURATIONS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class OneLine(click.Group):
    """A group whose failures are one line on stderr and exit status 1, or 2 for wrong usage."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            result = super().main(*args, **kwargs | {"standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            raise SystemExit(error.exit_code) from None
        except click.UsageError as error:
            help_hint = f"; see: {error.ctx.command_path} --help" if error.ctx else ""
            _fail(f"{error.format_message().rstrip('.')}{help_hint}", error.exit_code)
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except PlumError as error:
            _fail(str(error), 1)
        except click.Abort:
            _fail("interrupted", 130)
        raise SystemExit(result if isinstance(result, int) else 0)


def _fail(line: str, status: int) -> NoReturn:
    click.echo(f"plum-outcomes: {line}", err=True)
    raise SystemExit(status)


class Duration(click.ParamType[timedelta]):
    """`7d`, `12h`, `30m`, `45s`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d{1,5})([smhd])", value)
        if match is None:
            self.fail(f"{value!r} is no duration; use one like 7d, 12h, 30m or 45s", param, ctx)
        return timedelta(**{_DURATIONS[match[2]]: int(match[1])})


def example(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say in the command's help how it is used."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command.__doc__ = f"{command.__doc__}\n\n\b\nExample:\n  plum-outcomes {text}"
        return command

    return decorate


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


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
        _check_schema(settings, database)
        Spool(settings.spool_dir).check()
        factory.questions_database(settings).close()
        listening = _listen(bind)
        (settings.spool_dir / ADDRESS).write_text(f"http://{bind}")
        if welcome:
            _welcome(settings, database)
    sys.stdout.flush()
    os.set_inheritable(listening.fileno(), True)
    config = ROOT / "deploy" / "gunicorn.conf.py"
    command = [sys.executable, "-m", "gunicorn", "--config", str(config), "--chdir", str(ROOT)]
    options = ["--workers", str(workers), "--bind", f"fd://{listening.fileno()}"]
    os.execv(sys.executable, [*command, *options, "wsgi:app"])  # noqa: S606


def _check_schema(settings: Settings, database: Database) -> None:
    """The service starts while the store is away, if it has known keys for which the spool can take deliveries."""
    try:
        schema_version.check(database)
    except StoreUnavailable as error:
        if not len(KnownKeys(settings.spool_dir)):
            raise
        click.echo(f"plum-outcomes: {error}; until it is back, deliveries for known keys go to the spool", err=True)


def _listen(bind: str) -> socket.socket:
    """The listening socket, so that a port already taken is known before anything is said or started."""
    host, _, port = bind.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{bind} is not HOST:PORT")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), int(port)))
        listening.listen(2048)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {bind}: {error.strerror}; try: make run PORT=8001, or serve --bind HOST:PORT"
        ) from error
    return listening


def _welcome(settings: Settings, database: Database) -> None:
    if integrations.list_integrations(database):
        click.echo(
            f"Serving {_public_url(settings)} with what is there; for a new URL: plum-outcomes integration add NAME"
        )
        return
    now = datetime.now(UTC)
    url = _result_url(settings, integrations.add_integration(database, "first", None, now))
    token = tokens.add_token(database, "first", Scope.REVEAL, now)
    click.echo(
        f"""
  result_url for Plum   {url}
  outcomes              {_public_url(settings)}/api/v1/outcomes
  token                 {token}

Neither is shown again. Post a sample result, then see its outcome:

  curl -d '{SAMPLE_BODY}' '{url}'
  curl -H 'Authorization: Bearer {token}' '{_public_url(settings)}/api/v1/outcomes'
"""
    )


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
        _print_json([{"part": check.part, "ok": check.ok, "says": check.says} for check in found])
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
        key = integrations.add_integration(database, _name(name), declared, datetime.now(UTC))
    _print_integration(settings, name, declared, key, as_json)


@integration.command("list")
@as_json
@example("integration list")
def list_integrations(*, as_json: bool) -> None:
    """List the integrations; keys are stored hashed and cannot be shown."""
    with opened() as (_, database):
        _print_rows(integrations.list_integrations(database), as_json)


@integration.command("rotate")
@click.argument("name")
@click.option("--grace", type=Duration(), default="7d", show_default=True, help="How long the old URL still works.")
@as_json
@example("integration rotate reminders --grace 12h")
def rotate_integration(name: str, grace: timedelta, *, as_json: bool) -> None:
    """Give an integration a new URL."""
    with opened() as (settings, database):
        rotated, key = integrations.rotate_integration(database, name, grace, datetime.now(UTC))
    _print_integration(settings, name, rotated.product, key, as_json)


@integration.command("disable")
@click.argument("name")
@example("integration disable reminders")
def disable_integration(name: str) -> None:
    """Answer 404 under its URLs from now on; what it sent stays."""
    with opened() as (_, database):
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
    with opened() as (_, database):
        secret = tokens.add_token(database, _name(name), Scope(scope), datetime.now(UTC))
    if as_json:
        _print_json({"name": name, "scope": scope, "token": secret})
    else:
        click.echo(secret)


@token.command("list")
@as_json
@example("token list")
def list_tokens(*, as_json: bool) -> None:
    """List the tokens' names and scopes."""
    with opened() as (_, database):
        _print_rows(tokens.list_tokens(database), as_json)


@token.command("revoke")
@click.argument("name")
@example("token revoke dashboard")
def revoke_token(name: str) -> None:
    """Let a token open nothing from now on."""
    with opened() as (_, database):
        tokens.revoke_token(database, name, datetime.now(UTC))
    click.echo(f"{name} is revoked")


# --- questions

filters = click.argument("filters", nargs=-1, metavar="[FIELD=VALUE]...")
reveal = click.option("--reveal", is_flag=True, help="Show phone numbers whole.")


@main.command()
@filters
@reveal
@as_json
@example("outcomes status=completed,failed since=2026-03-01 limit=20")
def outcomes(filters: tuple[str, ...], *, reveal: bool, as_json: bool) -> None:
    """List outcomes; the same filters, sort and limit as the API's."""
    columns = ["ended_at", "integration", "phone_number", "status", "disposition", "answered_by", "attempts", "id"]
    schema = OutcomeSchema(reveal=reveal, region=from_environment().default_region)
    _print_page(filters, schema, "ended_at", questions.list_outcomes, columns, as_json)


@main.command()
@filters
@reveal
@as_json
@example("deliveries verdict=quarantined since=2026-03-01")
def deliveries(filters: tuple[str, ...], *, reveal: bool, as_json: bool) -> None:
    """List deliveries; the same filters, sort and limit as the API's."""
    columns = ["received_at", "integration", "product", "verdict", "reason", "size", "id", "outcome_id"]
    schema = DeliverySchema(reveal=reveal, region=from_environment().default_region)
    _print_page(filters, schema, "received_at", questions.list_deliveries, columns, as_json)


def _print_page(
    filters: tuple[str, ...],
    schema: RecordSchema,
    moment: str,
    ask: Callable[[Database, questions.Question], questions.Page],
    columns: list[str],
    as_json: bool,
) -> None:
    pairs = [text.partition("=") for text in filters]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise click.UsageError(f"{wrong[0]} is no filter; write FIELD=VALUE")
    try:
        asked = question(MultiDict([(name, value) for name, _, value in pairs]), schema, moment)
    except Forbidden:
        raise click.UsageError("filtering by phone number would give masked numbers away; add --reveal") from None
    page = ask(factory.questions_database(from_environment()), asked)
    records = [schema.record(row) for row in page.rows]
    if as_json:
        _print_json(records)
    else:
        _print_rows([{name: record[name] for name in columns} for record in records], as_json=False)
        if page.more_after:
            click.echo(f"(the first {len(records)}; there are more: limit=…, since=…, until=…)", err=True)


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
    _print_summary({"calls": len(made), "seed": seed, **summary.as_dict()}, as_json)
    if summary.acknowledged != summary.posted:
        raise click.ClickException(
            f"{summary.posted - summary.acknowledged} of {summary.posted} posts were not acknowledged"
        )


def _print_summary(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(summary)
        return
    for name, value in summary.items():
        click.echo(f"{name:>16}  {value if value != {} else 'none'}")


# --- printing


def _name(name: str) -> str:
    if not re.fullmatch(r"[\w][\w.\-]{0,63}", name):
        raise click.BadParameter(f"{name!r}: use 1 to 64 letters, digits, dots, dashes and underscores")
    return name


def _result_url(settings: Settings, key: str) -> str:
    return f"{_public_url(settings)}/result/{key}"


def _public_url(settings: Settings) -> str:
    """As set, else where `serve` listened last."""
    if settings.public_url:
        return settings.public_url
    try:
        return (settings.spool_dir / ADDRESS).read_text()
    except OSError:
        return "http://127.0.0.1:8000"


def _print_integration(settings: Settings, name: str, product: Product | None, key: str, as_json: bool) -> None:
    url = _result_url(settings, key)
    if as_json:
        _print_json({"name": name, "product": product or "auto", "key": key, "result_url": url})
    else:
        click.echo(url)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, default=str))


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """A table whose columns are as wide as they need."""
    if as_json:
        _print_json([{name: _shown(value) for name, value in row.items()} for row in rows])
        return
    if not rows:
        click.echo("none", err=True)
        return
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _shown(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _text(value: Any) -> str:
    return "" if value is None else str(_shown(value))


if __name__ == "__main__":
    main()
