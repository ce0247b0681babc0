"""The timeouts of one request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each phase; `whole` also limits a response that arrives slowly, in small pieces."""

    connect: float = 5.0
    write: float = 30.0
    read: float = 30.0
    whole: float = 60.0
