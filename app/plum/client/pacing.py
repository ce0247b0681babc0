"""Queue calls leave one after the other: Plum warns that a loop of them can make all calls fail."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Pace:
    """A least interval, in seconds, between the departures of all threads."""

    def __init__(self, interval: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._interval = interval
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Until it is this caller's turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._free_at)
            self._free_at = turn + self._interval
        if turn > now:
            self._sleep(turn - now)
