"""A question may be asked again, since asking changes nothing; a queue call never is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from app.plum.client.failures import Unavailable
from app.plum.client.responses import Unclear

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a question is asked, and the pauses between, in seconds.

    A longer pause than `longest_pause` is not waited for: whoever asked learns what Plum asks for instead.
    """

    sleep: Callable[[float], None]
    pauses: tuple[float, ...] = (1.0, 3.0)
    longest_pause: float = 30.0

    def ask(self, question: Callable[[], T]) -> T:
        """The answer; raises `Unavailable` if none came that can be used, and what `question` raises beside it."""
        for pause in self.pauses:
            try:
                return question()
            except (Unavailable, Unclear) as failure:
                asked_for = failure.retry_after_seconds
                if (asked_for or 0) > self.longest_pause:
                    raise _unavailable(failure) from None
                self.sleep(max(pause, asked_for or 0))
        try:
            return question()
        except (Unavailable, Unclear) as failure:
            raise _unavailable(failure) from None


def _unavailable(failure: Unavailable | Unclear) -> Unavailable:
    if isinstance(failure, Unavailable):
        return failure
    return Unavailable(f"Plum gives {failure}: ask again later", failure.retry_after_seconds)
