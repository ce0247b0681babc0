"""A rate limit for queue requests: Plum warns that sending them in a loop can make all calls fail."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Pace:
    """A minimum interval, in seconds, between the requests of all threads."""

    def __init__(self, interval: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._interval = interval
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Block until this caller may send its request."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._free_at)
            self._free_at = turn + self._interval
        if turn > now:
            self._sleep(turn - now)
