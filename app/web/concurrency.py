"""How many questions a process works on at a time: more would each take longer, and callbacks with them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import Overloaded

WAITING = 12
WAIT_SECONDS = 2.0


class ConcurrencyLimit:
    """Lets `running` through at a time. A few more wait a moment; all others are refused at once."""

    def __init__(self, running: int, waiting: int = WAITING, seconds: float = WAIT_SECONDS) -> None:
        self._running = threading.Semaphore(running)
        self._waiting = threading.Semaphore(waiting)
        self._seconds = seconds

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Raises `Overloaded`."""
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
