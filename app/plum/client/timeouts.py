"""How long one request may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each phase; `whole` bounds an answer that comes in drops."""

    connect: float = 5.0
    write: float = 30.0
    read: float = 30.0
    whole: float = 60.0
