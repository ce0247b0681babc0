"""Cooperative multitasking: under gevent one greenlet's work blocks all other requests of its process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, TypeVar

from gevent import monkey
from gevent.threadpool import ThreadPool

SLICE_SECONDS = 0.005

Item = TypeVar("Item")


def cooperatively(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items; let other greenlets run after each 5 ms of work on them."""
    began_at = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - began_at > SLICE_SECONDS:
            time.sleep(0)
            began_at = time.monotonic()


class Threads:
    """A thread pool of limited size that is created when it is needed.

    What may hang has a pool of its own, so that nothing else waits for a free thread.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    @cached_property
    def pool(self) -> ThreadPool:
        return ThreadPool(self._count)


_SHARED = Threads(8)


def aside(act: Callable[..., Any], *args: Any, threads: Threads = _SHARED) -> Any:
    """Run a slow function in a thread under gevent; other requests continue meanwhile.

    The function must use neither sockets nor locks: those of gevent belong to the thread of the event loop.
    """
    if not monkey.is_module_patched("threading"):
        return act(*args)
    result, failure = threads.pool.apply(_try, (act, args))
    if failure:
        raise failure
    return result


def _try(act: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """Return the failure instead of raising it, since gevent would also print an exception of the thread."""
    try:
        return act(*args), None
    except Exception as error:  # noqa: BLE001
        return None, error
