"""How long many looks may take together."""

from __future__ import annotations

import time

from app.errors import TooSlow

STATEMENT_SECONDS: float = 10  # each, unless it says otherwise


class Deadline:
    """So many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds

    def check(self) -> None:
        """Raises `TooSlow` when it has passed."""
        if time.monotonic() > self._until:
            raise TooSlow(
                f"looking for this took longer than {self._seconds} s and was stopped; "
                "ask for less time between since and until, or for fewer fields"
            )
