"""The commands that run an installation: `serve`, `migrate`, `housekeeping`, `analytics`, `doctor`."""

from __future__ import annotations

import logging.config
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import click

from app import doctor as checks
from app import factory, logs, serving
from app.addresses import remember_address
from app.analytics import process
from app.analytics.server import socket_of
from app.commands.opening import opened
from app.config import from_environment
from app.store import changes, schema_version
from app.store.database import questions_database
from app.terminal import as_json, example, print_json, say

NICENESS = 10  # of the analytical copy: callbacks come first


@click.command()
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
        serving.check(settings, database)
        questions_database(settings).close()
        listening = serving.listen(bind)
        remember_address(settings, bind)
        if welcome:
            click.echo(serving.welcome(settings, database))
    serving.run_gunicorn(listening, workers)


@click.command()
@example("migrate")
def migrate() -> None:
    """Bring the store's schema up to date."""
    with opened() as (_, database):
        schema_version.migrate(database)
        changes.renew(database, datetime.now(UTC))
    click.echo("the schema is up to date")


@click.command()
@click.option("--while-parent", type=int, metavar="PID", help="End when this parent process does.")
@example("housekeeping")
def housekeeping(while_parent: int | None) -> None:
    """Drain the spool, look for results that did not come, and prune what is old, until stopped.

    `serve` starts this by itself; to drain, a second one waits for the first to end.
    """
    settings = from_environment()
    logging.config.dictConfig(logs.config(settings.log_format))
    chores = factory.create_housekeeping(settings)
    reconciler, pruner = factory.create_reconciler(settings), factory.create_pruner(settings)
    _run(while_parent, chores.run, reconciler.run, pruner.run)


@click.command()
@click.option("--while-parent", type=int, metavar="PID", help="End when this parent process does.")
@example("analytics")
def analytics(while_parent: int | None) -> None:
    """Keep the analytical copy, and answer questions from it, until stopped.

    `serve` starts this by itself; a second one waits for the first to end.
    """
    settings = from_environment()
    logging.config.dictConfig(logs.config(settings.log_format))
    os.nice(NICENESS)
    open_engine, socket = partial(factory.create_engine, settings), socket_of(settings.analytics_path)
    _run(while_parent, partial(process.run, open_engine, socket, settings.database_url))


def _run(parent: int | None, *works: Callable[[threading.Event], None]) -> None:
    """Until one of these is done, a signal comes, or the parent process ends."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ThreadPoolExecutor(len(works)) as pool:
        working = [pool.submit(work, stop) for work in works]
        while not any(one.done() for one in working) and not stop.wait(0.5):
            if parent and os.getppid() != parent:
                stop.set()
        stop.set()
        try:
            for one in working:
                one.result(timeout=5)
        except TimeoutError:
            os._exit(1)


@click.command()
@as_json
@example("doctor")
def doctor(*, as_json: bool) -> None:
    """Check the whole installation and say what to mend."""
    found = checks.examine(os.environ)
    if as_json:
        print_json([{"part": check.part, "ok": check.ok, "says": check.says} for check in found])
    else:
        for check in found:
            say(f"{'ok  ' if check.ok else 'MEND'}  {check.part}: {check.says}")
    if not all(check.ok for check in found):
        raise SystemExit(1)
