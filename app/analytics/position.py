"""How far the copy is, and that as text, which stands in its file."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from app.store.journal import Horizon, Mark, Span


class Position(NamedTuple):
    """How far the copy is.

    It holds what the journal held at `seen`, whose newest change was then `mark`, and of `span`, where there is one,
    what lies before it. While it is filled, `filled_to` is the last outcome that it has, by time and id.
    """

    seen: Horizon
    mark: Mark | None
    span: Span | None = None
    filled_to: tuple[datetime, UUID] | None = None
    is_filled: bool = False


def written(position: Position) -> str:
    return json.dumps(position, default=str)


def read(written: str) -> Position:
    seen, mark, span, filled_to, is_filled = json.loads(written)
    return Position(
        _horizon(seen),
        Mark(mark[0], datetime.fromisoformat(mark[1])) if mark else None,
        Span(_horizon(span[0]), _horizon(span[1]), *span[2:]) if span else None,
        (datetime.fromisoformat(filled_to[0]), UUID(filled_to[1])) if filled_to else None,
        is_filled,
    )


def _horizon(written: list[Any]) -> Horizon:
    return Horizon(written[0], tuple(written[1]))
