"""How far the roll-ups hold what happened: which spans may be relied on, and which only the outcomes tell.

Each transaction notes in `changes` the quarters that its outcomes ended in, before and after. A refresh reads these
notes up to a horizon, marks the quarters as dirty, makes their roll-ups anew from the outcomes and takes the marks
off. So what a roll-up does not hold is either marked or noted beyond the horizon, and a question that reads horizon,
marks, notes, roll-ups and outcomes as of one moment misses nothing and counts nothing twice, whoever commits when.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, func, or_, select, text

from app.store.asking.quarters import Span, unpack
from app.store.changes import Horizon
from app.store.database import Database
from app.store.schema import changes, rollup_dirty, rollup_state

NOTHING_BEFORE = -(1 << 31)  # all quarters are filled


@dataclass(frozen=True, slots=True)
class State:
    """The one row of that name; `seen` is None before the first refresh, `filled_from` before the first roll-up."""

    round: int
    seen: Horizon | None
    filled_from: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """From the quarter `filled_from` on, all spans can be relied on but those that are dirty or hold dirty ones."""

    filled_from: int
    dirty: dict[Span, set[int]]

    def is_clean(self, span: Span, quarter: int) -> bool:
        return quarter not in self.dirty[span]


class Lag(NamedTuple):
    """For how long the oldest change has waited that no roll-up holds, and whether all older outcomes are held."""

    seconds: float
    filled: bool


def state(connection: Connection) -> State:
    row = connection.execute(select(rollup_state)).one()
    seen = None if row.seen_end is None else Horizon(row.seen_end, tuple(row.seen_running))
    return State(row.round, seen, row.filled_from)


def standing(connection: Connection) -> Standing | None:
    """What a question may rely on at this moment; None where that is nothing."""
    known = state(connection)
    if known.seen is None or known.filled_from is None or is_of_another_time(connection, known.seen):
        return None
    dirty: dict[Span, set[int]] = {span: set() for span in Span}
    for span, quarter in connection.execute(select(rollup_dirty.c.span, rollup_dirty.c.quarter)).all():
        dirty[Span(span)].add(quarter)
    noted = noted_since(connection, beyond(known.seen))
    if noted is None:
        return None
    dirty[Span.QUARTER] |= noted
    for span in (Span.HOUR, Span.DAY):
        dirty[span] |= {span.of(quarter) for quarter in dirty[Span.QUARTER]}
    dirty[Span.DAY] |= {Span.DAY.of(quarter) for quarter in dirty[Span.HOUR]}
    return Standing(known.filled_from, dirty)


def is_of_another_time(connection: Connection, seen: Horizon) -> bool:
    """Whether the numbers of transactions began anew since, as they do where a dump is loaded into a new server."""
    if connection.dialect.name == "sqlite":
        return False
    end = connection.execute(text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")).scalar_one()
    return bool(end < seen.end)


def beyond(seen: Horizon) -> list[ColumnElement[bool]]:
    return [or_(changes.c.id >= seen.end, changes.c.id.in_(seen.running))]


def noted_since(connection: Connection, which: Iterable[ColumnElement[bool]]) -> set[int] | None:
    """The quarters noted by these changes; None where one of them does not tell."""
    found: set[int] = set()
    for packed in connection.execute(select(changes.c.quarters).where(*which).distinct()).scalars().all():
        if packed is None:
            return None
        found.update(unpack(packed))
    return found


def lag(database: Database, now: datetime) -> Lag:
    """How far the roll-ups are behind. Raises `StoreUnavailable`."""
    with database.reading() as connection:
        known = state(connection)
        marked = select(func.min(rollup_dirty.c.touched_at)).where(rollup_dirty.c.span == Span.QUARTER)
        noted = select(func.min(changes.c.changed_at)).where(*(beyond(known.seen) if known.seen else ()))
        oldest = [moment for one in (marked, noted) if (moment := connection.execute(one).scalar_one()) is not None]
    seconds = max(0.0, (now - min(oldest)).total_seconds()) if oldest else 0.0
    return Lag(seconds, known.filled_from == NOTHING_BEFORE)
