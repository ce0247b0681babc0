"""The command `backup`."""

from __future__ import annotations

from pathlib import Path

import click

from app.auditing import log_command
from app.commands.context import opened
from app.intake.spool import Spool
from app.store import schema_version
from app.store.backup import backup
from app.terminal import complain, example, say


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@example("backup /backups/outcomes-2026-11-28.db")
def backup_command(file: Path) -> None:
    """Copy the store into FILE while it is in use.

    The copy is consistent.

    FILE is a SQLite database, or for PostgreSQL an archive for pg_restore. It contains unmasked phone numbers, but
    not the deliveries that wait in the spool.
    """
    with opened() as (settings, database):
        schema_version.check(database)
        log_command(database, "backup", [("file", str(file))])
        backup(database, file)
        waiting = Spool(settings.spool_dir).backlog().deliveries
    if waiting:
        complain(
            f"{waiting} deliveries wait in the spool and are not in the copy; make another once they are drained"
        )
    say(f"{file} holds the store, {file.stat().st_size:,} bytes")
