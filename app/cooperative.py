"""Work in turns: under gevent the other requests of a process wait while one works, callbacks too."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

SLICE_SECONDS = 0.005

Item = TypeVar("Item")


def cooperatively(items: Iterable[Item]) -> Iterator[Item]:
    """The items; between those that take long to work on, the other requests of the process have their turn."""
    began = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - began > SLICE_SECONDS:
            time.sleep(0)
            began = time.monotonic()
