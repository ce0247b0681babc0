"""Giving way: who works beside callbacks rests while they come and the processors are wanted.

A low priority alone does not do it: it does not reach the database's processes, which work for an export at their
own, nor the worker that passes the bytes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

CONTENDED = 0.1  # of the time spent in wait for a processor
REST = 9  # times as long as was worked
LEAST_REST_SECONDS = 0.25  # the database works ahead, so what it did for a piece is not seen in the piece's own time
MAX_REST_SECONDS = 2.0
TURN_SECONDS = 0.005

Item = TypeVar("Item")

_SCHEDULER = Path("/proc/self/schedstat")  # nanoseconds run, and in wait for a processor; on Linux alone


class Pace:
    """Asked after each piece of work; returns when the next may begin."""

    def __init__(self, callbacks_come: Callable[[], bool]) -> None:
        self._callbacks_come = callbacks_come
        self._since, self._waited = time.monotonic(), _waited_seconds()

    def rest(self) -> None:
        worked, waited = time.monotonic() - self._since, _waited_seconds() - self._waited
        if waited > CONTENDED * worked and self._callbacks_come():
            time.sleep(min(max(REST * worked, LEAST_REST_SECONDS), MAX_REST_SECONDS))
        self._since, self._waited = time.monotonic(), _waited_seconds()


def in_turns(items: Iterable[Item]) -> Iterator[Item]:
    """The items; between those that take long to work on, the other requests of the process have their turn.

    Under gevent they would wait for all of the work, callbacks too.
    """
    began = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - began > TURN_SECONDS:
            time.sleep(0)
            began = time.monotonic()


def _waited_seconds() -> float:
    try:
        return int(_SCHEDULER.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
