"""A circuit breaker: while the store is away, requests do not each wait for the same timeout."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from app import metrics
from app.errors import StoreUnavailable

HANG_SECONDS = 4.0  # a store that has not answered by then counts as away
PROBE_SECONDS = 0.5  # between probes of a store that is away

log = logging.getLogger(__name__)

_T = TypeVar("_T")


def within(seconds: float, work: Callable[[], _T]) -> _T:
    """Return or raise what `work` does. Raises `StoreUnavailable` after `seconds`; `work` then continues unattended.

    A frozen database does not keep its own timeouts, so the wait itself needs a limit.
    """
    done = threading.Event()
    results: list[_T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  raised again in the waiting thread
            failures.append(error)
        finally:
            done.set()

    threading.Thread(target=run, daemon=True).start()
    if not done.wait(seconds):
        raise StoreUnavailable(f"no answer within {seconds:g} s")
    if failures:
        raise failures[0]
    return results[0]


class Breaker:
    """Closed while the store answers. A failure opens it; a background thread closes it when the store answers
    again."""

    def __init__(self, probe: Callable[[], None], forget: Callable[[], None]) -> None:
        """`probe` raises while the store is away; `forget` closes the connections, some of which may hang for
        ever."""
        self._probe = probe
        self._forget = forget
        self._open = threading.Lock()  # held by the thread that probes
        metrics.BREAKER_OPEN.set(0)

    @property
    def is_open(self) -> bool:
        return self._open.locked()

    def call(self, work: Callable[[], _T]) -> _T:
        """Return the result of `work`. Raises `StoreUnavailable`, and does so at once while the breaker is open."""
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
            threading.Thread(target=self._probe_until_back, daemon=True).start()

    def _probe_until_back(self) -> None:
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
        except Exception:  # noqa: BLE001  after any failure the store counts as away
            return False
        return True
