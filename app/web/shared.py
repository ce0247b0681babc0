"""What anybody may ask for, as often as they like, costs the store one look in a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Shared(Generic[_T]):
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
