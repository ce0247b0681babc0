"""The command `spool`."""

from __future__ import annotations

import click

from app.config import from_environment
from app.errors import StoreUnavailable
from app.intake.spool import Spool
from app.terminal import as_json, example, print_values


@click.group()
def spool() -> None:
    """Manage deliveries that wait for the store.

    Also manages the segments that were set aside.
    """


@spool.command("retry")
@as_json
@example("spool retry")
def retry(*, as_json: bool) -> None:
    """Drain the segments again that were set aside.

    Every start of housekeeping does so too.
    """
    queue = Spool(from_environment().spool_dir)
    try:
        files = queue.retry()
    except OSError as error:
        raise StoreUnavailable(f"{queue.directory} cannot be used: {error.strerror}") from error
    print_values({"files": files}, as_json=as_json)
