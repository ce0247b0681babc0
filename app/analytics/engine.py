"""The copy with its follower: a question is answered once the copy has reached the question's horizon."""

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

# Each function takes a cursor of the copy, then the question's arguments.
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
    """The owner of the copy; no other process can open the file meanwhile."""

    def __init__(self, database: Database, path: Path, memory: str, masks: Mapping[str, Mask]) -> None:
        """Open the copy. Raises `Locked`, `ConfigError`."""
        self._copy = Copy(path, memory, masks)
        self._follower = Follower(database, self._copy)
        self._reach = self._follower.bring_to

    def run(self, stop: threading.Event) -> None:
        """Follow the journal until `stop` is set. Raises `MustReopen`."""
        self._reach = self._follower.wait_for
        self._follower.run(stop)

    def ask(self, what: str, arguments: tuple[Any, ...], horizon: Horizon, seconds: float = QUESTION_SECONDS) -> Any:
        """Return the answer to one of `QUESTIONS`. Raises `CopyUnavailable`, `TooSlow`, `MustReopen`, and the
        question's own errors."""
        self._reach(horizon)
        with self._copy.reading(seconds) as cursor:
            return QUESTIONS[what](cursor, *arguments)

    def file(self, file: File, horizon: Horizon) -> Iterator[bytes]:
        """Return the file's blocks."""
        self._reach(horizon)
        return files.written(self._copy, file)

    def remove(self) -> None:
        """Delete a damaged file."""
        self._copy.remove()

    def close(self) -> None:
        self._copy.close()
