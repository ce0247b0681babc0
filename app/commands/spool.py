"""The command `spool`."""

from __future__ import annotations

import click

from app.config import from_environment
from app.errors import StoreUnavailable
from app.intake.spool import Spool
from app.terminal import as_json, example, print_values


@click.group()
def spool() -> None:
    """What waits while the store is away, and what was set aside."""


@spool.command("retry")
@as_json
@example("spool retry")
def retry(*, as_json: bool) -> None:
    """Let what was set aside be drained again, as every start of housekeeping does."""
    found = Spool(from_environment().spool_dir)
    try:
        files = found.retry()
    except OSError as error:
        raise StoreUnavailable(f"{found.directory} cannot be used: {error.strerror}") from error
    print_values({"files": files}, as_json=as_json)
