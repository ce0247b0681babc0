"""Retries of reads, which change nothing. Queue requests are never retried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from app.plum.client.failures import Unavailable
from app.plum.client.responses import UnreadableResponse

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retries:
    """The number of retries of a read, and the pauses before them, in seconds.

    If Plum asks for a longer pause than `longest_pause`, the read fails at once, and its exception names the pause.
    """

    sleep: Callable[[float], None]
    pauses: tuple[float, ...] = (1.0, 3.0)
    longest_pause: float = 30.0

    def ask(self, question: Callable[[], T]) -> T:
        """Return the result of `question`. Raises `Unavailable` if no try succeeds; other exceptions at once."""
        for pause in self.pauses:
            try:
                return question()
            except (Unavailable, UnreadableResponse) as failure:
                plum_pause = failure.retry_after_seconds
                if (plum_pause or 0) > self.longest_pause:
                    raise _unavailable(failure) from None
                self.sleep(max(pause, plum_pause or 0))
        try:
            return question()
        except (Unavailable, UnreadableResponse) as failure:
            raise _unavailable(failure) from None


def _unavailable(failure: Unavailable | UnreadableResponse) -> Unavailable:
    if isinstance(failure, Unavailable):
        return failure
    return Unavailable(f"Plum gives {failure}: ask again later", failure.retry_after_seconds)
