"""What anybody may ask for, as often as they like, costs the store one look in a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Shared(Generic[_T]):
    """One answer for all who ask within some seconds, made by the first of them."""

    def __init__(self, make: Callable[[], _T], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._making = threading.Lock()
        self._made: _T | None = None
        self._until = 0.0

    def __call__(self) -> _T:
        with self._making:
            if self._made is None or time.monotonic() > self._until:
                self._made = self._make()
                self._until = time.monotonic() + self._seconds
            return self._made
