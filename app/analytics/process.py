"""What the process of the copy does: it waits until no other has it, follows the store, and answers questions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from app import metrics
from app.analytics.copy import Locked
from app.analytics.engine import Engine
from app.analytics.server import Server
from app.errors import CopyUnavailable, Damaged, PlumError
from app.store.journal import Horizon

WAIT_SECONDS = 0.5
DRIFT_SECONDS = 60.0
DRIFT_REST = 50  # times as long as counting drift took
LEAST_DRIFT_REST_SECONDS = 2.0

log = logging.getLogger(__name__)


def run(open_engine: Callable[[], Engine], socket: Path, store: str, stop: threading.Event) -> None:
    """Until `stop` is set. Raises `Damaged` once it has removed a copy of no use, for the next to make again."""
    engine = _opened(open_engine, stop)
    if engine is None:
        return
    failures: list[BaseException] = []

    def follow() -> None:
        try:
            engine.run(stop)
        except BaseException as error:  # noqa: BLE001  raised again below
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=work, daemon=True) for work in (follow, lambda: _count_drift(engine, stop))]
    for thread in threads:
        thread.start()
    server = Server(engine, socket, store)
    server.run(stop)
    threads[0].join()
    engine.close()
    for failure in filter(None, (*failures, server.damage)):
        if isinstance(failure, Damaged):
            engine.remove()
        raise failure


def _opened(open_engine: Callable[[], Engine], stop: threading.Event) -> Engine | None:
    has_said = False
    while not stop.is_set():
        try:
            return open_engine()
        except Locked as error:
            if not has_said:
                log.info("waiting: %s", error.detail)
            has_said = True
            stop.wait(WAIT_SECONDS)
    return None


def _count_drift(engine: Engine, stop: threading.Event) -> None:
    """For the metric; at a pace that questions do not feel."""
    took = 0.0
    while not stop.wait(max(LEAST_DRIFT_REST_SECONDS, DRIFT_REST * took)):
        began = time.monotonic()
        try:
            metrics.DRIFT_ITEMS.set(len(engine.ask("drift", (None, {}), Horizon(0), DRIFT_SECONDS)))
        except CopyUnavailable:  # as while it is filled, which the log and the other metrics tell
            continue
        except PlumError as error:
            log.warning("what nobody knew is not counted anew: %s", error.detail)
        took = time.monotonic() - began
