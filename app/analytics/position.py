"""The copy's position in the journal, and its text form, which the copy's file stores."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from app.store.journal import Horizon, Mark, Span


class Position(NamedTuple):
    """The copy's position in the journal.

    The copy holds everything that the journal held at `seen`, whose newest change was `mark`; and, while a `span` is
    being followed, the part of the span before its `id`. During the fill, `filled_to` is the time and the id of the
    last outcome copied.
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


def _horizon(values: list[Any]) -> Horizon:
    return Horizon(values[0], tuple(values[1]))
