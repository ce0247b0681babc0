"""The command `plum`: Plum's own APIs, and the registration of calls that other systems queued."""

from __future__ import annotations

import click

from app.commands import expected_calls, queueing


@click.group()
def plum() -> None:
    """Queue calls at Plum, show, cancel or register them.

    Also manages the numbers that are not to be called.
    """


for _command in (
    queueing.queue_command,
    queueing.bulk_queue_command,
    queueing.status_command,
    queueing.cancel_command,
    expected_calls.expect_command,
    expected_calls.do_not_call_group,
):
    plum.add_command(_command)
