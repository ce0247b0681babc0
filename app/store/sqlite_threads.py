"""How SQLite answers questions: each step within a time limit, and under gevent in a thread of its own.

SQLite works in the thread that asks it, so under gevent a long question would keep every other request of the process
waiting, callbacks too.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

from gevent import monkey
from gevent.threadpool import ThreadPool

_LOOKS_EVERY = 20_000  # of SQLite's operations, about a millisecond


class QuestionCursor(sqlite3.Cursor):
    """A question's cursor. A step beyond the connection's `step_seconds` fails as interrupted."""

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
        self.connection.set_progress_handler(lambda: time.monotonic() > deadline, _LOOKS_EVERY)
        try:
            return aside(act, *args, threads=self.connection.threads)  # type: ignore[attr-defined]
        finally:
            self.connection.set_progress_handler(None, 0)


class Threads:
    """So many at most, which begin when they are needed.

    Each database has its own, apart from those that commits wait in: no question keeps a delivery or a key waiting.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    @cached_property
    def pool(self) -> ThreadPool:
        return ThreadPool(self._count)


_OTHERS = Threads(8)


def aside(act: Callable[..., Any], *args: Any, threads: Threads = _OTHERS) -> Any:
    """Do what may take long and touches no socket; under gevent other requests go on meanwhile."""
    if not monkey.is_module_patched("threading"):
        return act(*args)
    result, failure = threads.pool.apply(_tried, (act, args))
    if failure:
        raise failure
    return result


def _tried(act: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """A failure is handed over: one raised in the thread would be printed there as well."""
    try:
        return act(*args), None
    except Exception as error:  # noqa: BLE001
        return None, error
