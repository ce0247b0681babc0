"""Runs SQLite's queries: each step within a time limit, and under gevent in a thread pool.

SQLite works in the calling thread. Under gevent a long query would therefore block every other request of the
process, including callbacks.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

from gevent import monkey
from gevent.threadpool import ThreadPool

_CHECK_EVERY = 20_000  # SQLite operations between two checks of the time limit, about a millisecond


class QuestionCursor(sqlite3.Cursor):
    """A query's cursor. A step that takes longer than the connection's `step_seconds` is interrupted."""

    def execute(self, *args: Any) -> Any:
        return self._step(super().execute, *args)

    def fetchone(self) -> Any:
        return self._step(super().fetchone)

    def fetchmany(self, *args: Any) -> Any:
        return self._step(super().fetchmany, *args)

    def fetchall(self) -> Any:
        return self._step(super().fetchall)

    def _step(self, act: Callable[..., Any], *args: Any) -> Any:
        deadline = time.monotonic() + self.connection.step_seconds  # type: ignore[attr-defined]
        self.connection.set_progress_handler(lambda: time.monotonic() > deadline, _CHECK_EVERY)
        try:
            return aside(act, *args, threads=self.connection.threads)  # type: ignore[attr-defined]
        finally:
            self.connection.set_progress_handler(None, 0)


class Threads:
    """A thread pool of limited size that is created when it is needed.

    Each database has its own pool, separate from the threads in which commits wait, so that no query delays a
    delivery or the check of a key.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    @cached_property
    def pool(self) -> ThreadPool:
        return ThreadPool(self._count)


_SHARED = Threads(8)


def aside(act: Callable[..., Any], *args: Any, threads: Threads = _SHARED) -> Any:
    """Run a slow function that uses no socket; under gevent other requests continue meanwhile."""
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
