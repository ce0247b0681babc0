"""The commands that start an installation: `serve`, `migrate`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from app import startup
from app.commands.context import opened
from app.public_urls import remember_address
from app.store import journal
from app.store.database import Database, questions_database
from app.terminal import example


@click.command()
@click.option("--bind", default="127.0.0.1:8000", show_default=True, help="HOST:PORT, unless systemd listens.")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Web processes.")
@click.option(
    "--welcome",
    is_flag=True,
    help="First migrate the schema, add an integration and a token, and show them.",
)
@example("serve --bind 0.0.0.0:8000 --workers 4")
def serve(bind: str, workers: int, *, welcome: bool) -> None:
    """Serve until stopped.

    Runs gunicorn and housekeeping, with settings from the environment.
    """
    with opened() as (settings, database):
        if welcome:
            _migrate(database)
        startup.check(settings, database)
        questions_database(settings).close()
        listener = startup.listen(bind)
        remember_address(settings, listener)
        if welcome:
            click.echo(startup.welcome(settings, database))
    startup.run_gunicorn(listener, workers)


@click.command()
@example("migrate")
def migrate() -> None:
    """Bring the store's schema up to date."""
    with opened() as (_, database):
        _migrate(database)
        journal.renew(database, datetime.now(UTC))
    click.echo("the schema is up to date")


def _migrate(database: Database) -> None:
    from app.store import migrating  # imports Alembic, which a start without --welcome does not need

    migrating.migrate(database)
