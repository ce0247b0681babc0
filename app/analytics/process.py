"""The main function of the copy's process: it waits for the lock, follows the store, and answers questions."""

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
DRIFT_REST = 50  # pause, in multiples of the time that counting drift took
LEAST_DRIFT_REST_SECONDS = 2.0

log = logging.getLogger(__name__)


def run(open_engine: Callable[[], Engine], socket: Path, store: str, stop: threading.Event) -> None:
    """Run until `stop` is set. Raises `MustReopen` for the next process to open the copy again, and `Damaged`
    after it has removed a damaged copy, so that the next process creates it."""
    engine = _open_when_free(open_engine, stop)
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
    for failure in filter(None, (*failures, server.failure)):
        if isinstance(failure, Damaged):
            engine.remove()
        raise failure


def _open_when_free(open_engine: Callable[[], Engine], stop: threading.Event) -> Engine | None:
    has_logged = False
    while not stop.is_set():
        try:
            return open_engine()
        except Locked as error:
            if not has_logged:
                log.info("waiting: %s", error.detail)
            has_logged = True
            stop.wait(WAIT_SECONDS)
    return None


def _count_drift(engine: Engine, stop: threading.Event) -> None:
    """Update the metric, with pauses so that questions do not become slower."""
    took = 0.0
    while not stop.wait(max(LEAST_DRIFT_REST_SECONDS, DRIFT_REST * took)):
        began = time.monotonic()
        try:
            metrics.DRIFT_ITEMS.set(len(engine.ask("drift", (None, {}), Horizon(0), DRIFT_SECONDS)))
        except CopyUnavailable:  # for example during the fill, which the log and other metrics report
            continue
        except PlumError as error:
            log.warning("drift is not counted this time: %s", error.detail)
        took = time.monotonic() - began
