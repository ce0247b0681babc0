"""Giving way: who works beside callbacks rests while others want the processors.

A low priority alone does not do it: it does not reach the database's processes, which work for an export at their
own, nor the worker that passes the bytes on.
"""

from __future__ import annotations

import time
from pathlib import Path

CONTENDED = 0.1  # of the time spent in wait for a processor
REST = 9  # times as long as was worked
MAX_REST_SECONDS = 2.0

_SCHEDULER = Path("/proc/self/schedstat")  # nanoseconds run, and in wait for a processor; on Linux alone


class Pace:
    """Asked after each piece of work; returns when the next may begin."""

    def __init__(self) -> None:
        self._since, self._waited = time.monotonic(), _waited_seconds()

    def rest(self) -> None:
        worked, waited = time.monotonic() - self._since, _waited_seconds() - self._waited
        if waited > CONTENDED * worked:
            time.sleep(min(REST * worked, MAX_REST_SECONDS))
        self._since, self._waited = time.monotonic(), _waited_seconds()


def _waited_seconds() -> float:
    try:
        return int(_SCHEDULER.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
