"""A scheduler that runs actions at given times, on a few threads."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

THREADS = 8

Action = Callable[[], None]


class Scheduler:
    """Runs actions at their times, in seconds of `time.monotonic`; late but in order while all threads are busy."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._is_open = True
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="plum")
        self._thread = threading.Thread(target=self._run, name="agenda")
        self._thread.start()

    def at(self, moment: float, action: Action) -> None:
        with self._changed:
            heapq.heappush(self._entries, (moment, next(self._numbers), action))
            self._changed.notify()

    def close(self, interrupt: Action) -> None:
        """Drop the pending actions; `interrupt` must end the running ones."""
        with self._changed:
            self._is_open = False
            self._changed.notify()
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)
        interrupt()
        self._pool.shutdown()

    def _run(self) -> None:
        while (action := self._next()) is not None:
            self._pool.submit(action).add_done_callback(_report)

    def _next(self) -> Action | None:
        """Wait for the next action to be due and return it; None when the agenda is closed."""
        with self._changed:
            while self._is_open:
                wait = self._entries[0][0] - time.monotonic() if self._entries else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._entries)[2]
                self._changed.wait(wait)
        return None


def _report(action: Future[None]) -> None:
    """Log an action's exception, which would otherwise be lost with its thread."""
    if not action.cancelled() and (failure := action.exception()):
        logging.getLogger(__name__).error("an action failed", exc_info=failure)
