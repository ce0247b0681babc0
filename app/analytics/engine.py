"""The copy with what keeps it up to date: questions are answered once it holds what their asker saw."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from app.analytics import answers, files
from app.analytics.copy import QUESTION_SECONDS, Copy
from app.analytics.counts import group_counts
from app.analytics.drift import drift
from app.analytics.follower import Follower
from app.analytics.protocol import File
from app.analytics.redial import candidates
from app.exports.columns import Mask
from app.store.database import Database
from app.store.journal import Horizon

# Each takes a cursor of the copy, then what is asked.
QUESTIONS: Mapping[str, Callable[..., Any]] = {
    "find": answers.find,
    "count": answers.count,
    "facets": answers.facets,
    "summarise": answers.summarise,
    "group_counts": group_counts,
    "drift": drift,
    "candidates": candidates,
}


class Engine:
    """Whoever has one has the copy; no other process can open it meanwhile."""

    def __init__(self, database: Database, path: Path, memory: str, masks: Mapping[str, Mask]) -> None:
        """Raises `Locked`, `ConfigError`."""
        self._copy = Copy(path, memory, masks)
        self._follower = Follower(database, self._copy)
        self._reach = self._follower.bring_to

    def run(self, stop: threading.Event) -> None:
        """Follow until `stop` is set. Raises `Damaged`."""
        self._reach = self._follower.wait_for
        self._follower.run(stop)

    def ask(self, what: str, arguments: tuple[Any, ...], horizon: Horizon, seconds: float = QUESTION_SECONDS) -> Any:
        """The answer to one of `QUESTIONS`. Raises `CopyUnavailable`, `TooSlow`, `Damaged` and its own."""
        self._reach(horizon)
        with self._copy.reading(seconds) as cursor:
            return QUESTIONS[what](cursor, *arguments)

    def file(self, file: File, horizon: Horizon) -> Iterator[bytes]:
        """The file's blocks."""
        self._reach(horizon)
        return files.written(self._copy, file)

    def remove(self) -> None:
        """Give up a file that is of no use any more."""
        self._copy.remove()

    def close(self) -> None:
        self._copy.close()
