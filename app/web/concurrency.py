"""Limits the concurrent questions of a process: more would slow down each other, and callbacks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import Overloaded

WAITING = 12
WAIT_SECONDS = 2.0


class ConcurrencyLimit:
    """A semaphore of `running` slots. `waiting` more requests wait up to `seconds`; others are refused at once."""

    def __init__(self, running: int, waiting: int = WAITING, seconds: float = WAIT_SECONDS) -> None:
        self._running = threading.Semaphore(running)
        self._waiting = threading.Semaphore(waiting)
        self._seconds = seconds

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot. Raises `Overloaded` if none becomes free in time."""
        if not self._acquire():
            raise Overloaded("too many questions at once; ask again in a moment, or ask for less at a time")
        try:
            yield
        finally:
            self._running.release()

    def _acquire(self) -> bool:
        if self._running.acquire(blocking=False):
            return True
        if not self._waiting.acquire(blocking=False):
            return False
        try:
            return self._running.acquire(timeout=self._seconds)
        finally:
            self._waiting.release()
