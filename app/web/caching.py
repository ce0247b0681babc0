"""Caches for values that many requests read: concurrent callers share one computation."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

_PAUSE_FACTOR = 10  # the pause after a computation, as a multiple of its duration
_MAX_PAUSE_SECONDS = 30.0
_PATIENCE_SECONDS = 0.1  # timeout of a page for a value that is being computed

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Coalesced(Generic[_T]):
    """One value for all callers that wait while it is computed, and a pause between two computations."""

    def __init__(self, make: Callable[[], _T], pause_seconds: float) -> None:
        self._compute = make
        self._pause_seconds = pause_seconds
        self._lock = threading.Lock()
        self._value: _T | None = None
        self._computed_at = 0.0

    def __call__(self) -> _T:
        asked_at = time.monotonic()
        with self._lock:
            if self._value is None or self._computed_at < asked_at:
                time.sleep(max(0.0, self._computed_at + self._pause_seconds - time.monotonic()))
                self._value = self._compute()
                self._computed_at = time.monotonic()
            return self._value


class RefreshedInBackground(Generic[_T]):
    """A value that takes seconds to compute. Pages get the last one while a thread computes the next."""

    def __init__(self, make: Callable[[], _T], longest_seconds: float = 300.0) -> None:
        """`longest_seconds` is the maximum age of a value that is returned."""
        self._compute = make
        self._longest_seconds = longest_seconds
        self._computed_at = 0.0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._value: _T | None = None
        self._pauses_until = 0.0

    def __call__(self, patience: float = _PATIENCE_SECONDS) -> _T | None:
        """Return the value, or None if there is none or it is too old. Waits `patience` s for a computation."""
        if thread := self.begin():
            thread.join(patience)
        return self._value if time.monotonic() < self._computed_at + self._longest_seconds else None

    def begin(self) -> threading.Thread | None:
        """Start a computation, unless one runs or the pause lasts. Returns the thread that runs, or None."""
        with self._lock:
            if self._thread is None and time.monotonic() >= self._pauses_until:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            return self._thread

    def _run(self) -> None:
        began_at = time.monotonic()
        try:
            self._value, self._computed_at = self._compute(), time.monotonic()
        except Exception as error:
            log.error("a value for a page could not be computed", exc_info=error)
        finally:
            ended_at = time.monotonic()
            self._pauses_until = ended_at + min(_PAUSE_FACTOR * (ended_at - began_at), _MAX_PAUSE_SECONDS)
            self._thread = None


def values_of(*caches: RefreshedInBackground[Any]) -> list[Any]:
    """Return the value of each cache, with one timeout for all."""
    for cache in caches:
        cache.begin()
    until = time.monotonic() + _PATIENCE_SECONDS
    return [cache(max(0.0, until - time.monotonic())) for cache in caches]
