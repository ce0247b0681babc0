"""What anybody may ask for, as often as they like, costs the store one look in a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

_REST = 10  # times as long as it took rests what makes an answer
_LONGEST_REST_SECONDS = 30.0
_PATIENCE_SECONDS = 0.1  # of a page with what is being made

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Coalesced(Generic[_T]):
    """One answer for all who ask while it is made, and a pause before the next is made for others."""

    def __init__(self, make: Callable[[], _T], pause_seconds: float) -> None:
        self._make = make
        self._pause_seconds = pause_seconds
        self._making = threading.Lock()
        self._made: _T | None = None
        self._made_at = 0.0

    def __call__(self) -> _T:
        asked_at = time.monotonic()
        with self._making:
            if self._made is None or self._made_at < asked_at:
                time.sleep(max(0.0, self._made_at + self._pause_seconds - time.monotonic()))
                self._made = self._make()
                self._made_at = time.monotonic()
            return self._made


class RefreshedInBackground(Generic[_T]):
    """An answer that may take seconds, for a page that may not: the last one, while the next is made beside."""

    def __init__(self, make: Callable[[], _T], longest_seconds: float = 300.0) -> None:
        """`longest_seconds`: so old may an answer be that is shown."""
        self._make = make
        self._longest_seconds = longest_seconds
        self._made_at = 0.0
        self._starting = threading.Lock()
        self._under_way: threading.Thread | None = None
        self._made: _T | None = None
        self._rests_until = 0.0

    def __call__(self, patience: float = _PATIENCE_SECONDS) -> _T | None:
        """None while there is none, or an old one alone. One that is made at once is hardly ever old."""
        if under_way := self.begin():
            under_way.join(patience)
        return self._made if time.monotonic() < self._made_at + self._longest_seconds else None

    def begin(self) -> threading.Thread | None:
        """Make the next, unless there is one just now; what makes it, if anything does."""
        with self._starting:
            if self._under_way is None and time.monotonic() >= self._rests_until:
                self._under_way = threading.Thread(target=self._run, daemon=True)
                self._under_way.start()
            return self._under_way

    def _run(self) -> None:
        began_at = time.monotonic()
        try:
            self._made, self._made_at = self._make(), time.monotonic()
        except Exception as error:
            log.error("what a page shows cannot be found", exc_info=error)
        finally:
            ended_at = time.monotonic()
            self._rests_until = ended_at + min(_REST * (ended_at - began_at), _LONGEST_REST_SECONDS)
            self._under_way = None


def values_of(*kept: RefreshedInBackground[Any]) -> list[Any]:
    """What each has, with one patience for all."""
    for one in kept:
        one.begin()
    until = time.monotonic() + _PATIENCE_SECONDS
    return [one(max(0.0, until - time.monotonic())) for one in kept]
