"""Keeps requests from waiting out the same time-out each, while the store is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from app import metrics
from app.errors import StoreUnavailable

HANG_SECONDS = 4.0  # a store that has not answered by then counts as away
PROBE_SECONDS = 0.5  # between looks whether it is back

log = logging.getLogger(__name__)

_T = TypeVar("_T")


def within(seconds: float, work: Callable[[], _T]) -> _T:
    """What `work` returns or raises, but after `seconds` `StoreUnavailable`; then the work goes on unwatched.

    A database that is frozen answers no time-out of its own, so the wait itself has to end.
    """
    done = threading.Event()
    results: list[_T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  handed to the waiting side
            failures.append(error)
        finally:
            done.set()

    threading.Thread(target=run, daemon=True).start()
    if not done.wait(seconds):
        raise StoreUnavailable(f"the store has not answered within {seconds:g} s")
    if failures:
        raise failures[0]
    return results[0]


class Breaker:
    """Closed while the store answers. Once it fails it opens, and a look in the background closes it again."""

    def __init__(self, probe: Callable[[], None], forget: Callable[[], None]) -> None:
        """`probe` raises while the store is away; `forget` gives up connections, some of which may hang for ever."""
        self._probe = probe
        self._forget = forget
        self._open = threading.Lock()  # held by the one that looks
        metrics.BREAKER_OPEN.set(0)

    @property
    def is_open(self) -> bool:
        return self._open.locked()

    def call(self, work: Callable[[], _T]) -> _T:
        """What `work` gives. Raises `StoreUnavailable`, at once while the breaker is open."""
        if self.is_open:
            raise StoreUnavailable("the store was away a moment ago")
        try:
            return within(HANG_SECONDS, work)
        except StoreUnavailable as error:
            self._trip(error)
            raise

    def _trip(self, error: StoreUnavailable) -> None:
        if self._open.acquire(blocking=False):
            log.error("the store is away, deliveries go to the spool: %s", error.detail)
            metrics.BREAKER_OPEN.set(1)
            self._forget()
            threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        try:
            time.sleep(PROBE_SECONDS)
            while not self._is_back():
                time.sleep(PROBE_SECONDS)
        finally:
            metrics.BREAKER_OPEN.set(0)
            self._open.release()
        log.info("the store is back")

    def _is_back(self) -> bool:
        try:
            within(HANG_SECONDS, self._probe)
        except Exception:  # noqa: BLE001  of whatever kind: it is not back
            return False
        return True
