"""The commands of the background processes: `housekeeping`, `analytics`."""

from __future__ import annotations

import logging.config
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import click

from app import assembly, logs
from app.analytics.protocol import socket_of
from app.config import from_environment
from app.store.database import Database
from app.terminal import example

NICENESS = 10  # of the analytical copy: callbacks come first


@click.command()
@click.option("--while-parent", type=int, metavar="PID", help="End when this parent process does.")
@example("housekeeping")
def housekeeping(while_parent: int | None) -> None:
    """Drain the spool, find missing results, and prune.

    Runs until it is stopped.

    `serve` starts this by itself. A second process drains only after the first has ended.
    """
    settings = from_environment()
    logging.config.dictConfig(logs.config(settings.log_format))
    chores = assembly.create_housekeeping(settings)
    reconciler = assembly.create_reconciler(settings, Database(settings.database_url, connections=1))
    pruner = assembly.create_pruner(settings, Database(settings.database_url, connections=1))
    _run(while_parent, chores.run, reconciler.run, pruner.run)


@click.command()
@click.option("--while-parent", type=int, metavar="PID", help="End when this parent process does.")
@example("analytics")
def analytics(while_parent: int | None) -> None:
    """Update the analytical copy and answer queries from it.

    Runs until it is stopped.

    `serve` starts this by itself. A second process waits until the first has ended.
    """
    settings = from_environment()
    logging.config.dictConfig(logs.config(settings.log_format))
    from app.analytics import process  # imports DuckDB, which housekeeping does not need

    os.nice(NICENESS)
    open_engine, socket = partial(assembly.create_engine, settings), socket_of(settings.analytics_path)
    _run(while_parent, partial(process.run, open_engine, socket, Database(settings.database_url).address))


def _run(parent: int | None, *works: Callable[[threading.Event], None]) -> None:
    """Run the works in threads until one of them returns, a signal arrives, or the parent process ends."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(work, stop) for work in works]
        while not any(future.done() for future in futures) and not stop.wait(0.5):
            if parent and os.getppid() != parent:
                stop.set()
        stop.set()
        try:
            for future in futures:
                future.result(timeout=5)
        except TimeoutError:
            os._exit(1)
