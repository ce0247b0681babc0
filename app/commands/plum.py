"""The command `plum`: Plum's own APIs, and what is to be known of calls that others queued."""

from __future__ import annotations

import click

from app.commands import expected_calls, queueing


@click.group()
def plum() -> None:
    """Queue calls at Plum, look at one, cancel; say what others queued, and whom not to call."""


for _command in (
    queueing.queue_command,
    queueing.bulk_queue_command,
    queueing.status_command,
    queueing.cancel_command,
    expected_calls.expect_command,
    expected_calls.do_not_call_group,
):
    plum.add_command(_command)
