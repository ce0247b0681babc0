"""Making roll-ups: what is dirty is made anew from the outcomes, never added to.

Each step reads and reckons outside of any write transaction, then writes within a few milliseconds, and only if no
one else has written since its reading began: of two that refresh at once one step is lost and taken again. Quarters
are made of outcomes, hours of quarters, days of hours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from app.store import changes
from app.store.asking.quarters import Span, begin, quarter_of
from app.store.database import Database
from app.store.rollups import tracing
from app.store.rollups.making import Kinds, Made, of_outcomes, of_parts, row
from app.store.rollups.standing import NOTHING_BEFORE, State, beyond, is_of_another_time, noted_since, state
from app.store.rollups.tracing import Write
from app.store.schema import changes as notes
from app.store.schema import outcomes, rollup_dirty, rollup_state, rollups

QUIET = timedelta(seconds=10)  # what changes faster is left to questions, which read its outcomes
STEP = 32  # spans made before they are written
SLOW_SECONDS = 120.0

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class _Step(NamedTuple):
    """What is made, from which quarter on roll-ups can then be relied on, and how traces are written before that."""

    span: Span
    made: list[Made]
    filled_from: int | None
    traces: Iterable[Write] = ()


def refresh(database: Database, now: datetime, quiet: timedelta = QUIET) -> bool:
    """One step; whether more is to be done at once. Raises `StoreUnavailable`."""
    _collect(database, now)
    if _merge_traces(database, now):
        return True
    with database.reading(SLOW_SECONDS) as connection:
        known, kinds = state(connection), Kinds(connection)
        step = (
            _dirty(connection, kinds, known, now - quiet)
            or _unfilled(connection, kinds, known, now)
            or _coarse(connection, known, now - quiet)
        )
    if step is None:
        return False
    turned = _in_turns(database, known, step.traces)
    if turned:
        _write(database, turned, kinds, step, now)
    return True


def _merge_traces(database: Database, now: datetime) -> bool:
    """Whether there was a day to merge."""
    with database.reading(SLOW_SECONDS) as connection:
        known = state(connection)
        merging = tracing.due(connection, known.filled_from, now)
        if merging:
            _in_turns(database, known, tracing.merged(connection, merging))
    return merging is not None


def _in_turns(database: Database, known: State, writes: Iterable[Write]) -> State | None:
    """Each in a transaction of its own; None where someone else has written, and what remains is not done."""
    for write in writes:
        with database.writing() as connection:
            if not _take_turn(connection, known):
                return None
            write(connection)
        known = replace(known, round=known.round + 1)
    return known


def _collect(database: Database, now: datetime) -> None:
    """Mark as dirty what changed since the last time. The first time there is all to fill, and nothing to mark."""
    with database.reading() as connection:
        known = state(connection)
    upto = changes.horizon(database)
    noted: set[int] | None = None
    with database.reading() as connection:
        if known.seen is not None and not is_of_another_time(connection, known.seen):
            between = [notes.c.id < upto.end, notes.c.id.not_in(upto.running)]
            noted = noted_since(connection, [*beyond(known.seen), *between])
    if noted is not None and not noted:
        return
    with database.writing() as connection:
        if not _take_turn(connection, known, seen_end=upto.end, seen_running=upto.running):
            return
        if noted is None:
            _start_over(connection)
        else:
            _mark(connection, [(Span.QUARTER, quarter) for quarter in noted], now)


def _take_turn(connection: Connection, known: State, **values: Any) -> bool:
    """Whether no one else has written since `known` was read; from now on they would have to wait."""
    statement = update(rollup_state).where(rollup_state.c.round == known.round)
    return connection.execute(statement.values(round=known.round + 1, **values)).rowcount == 1


def _start_over(connection: Connection) -> None:
    """Traces stay, being many: they lead to nothing at worst, and each quarter is traced before it is relied on."""
    for table in (rollups, rollup_dirty):
        connection.execute(delete(table))
    connection.execute(update(rollup_state).values(filled_from=None))


def _mark(connection: Connection, spans: Iterable[tuple[Span, int]], now: datetime) -> None:
    rows = [{"span": int(span), "quarter": quarter, "touched_at": now} for span, quarter in spans]
    _put(connection, rollup_dirty, rows)


def _put(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    """Insert, or replace what is there under the same span and quarter."""
    if rows:
        statement = _INSERT[connection.dialect.name](table)
        values = {name: statement.excluded[name] for name in rows[0] if name not in ("span", "quarter")}
        connection.execute(statement.on_conflict_do_update(index_elements=["span", "quarter"], set_=values), rows)


# --- what is to be made


def _dirty(connection: Connection, kinds: Kinds, known: State, before: datetime) -> _Step | None:
    """Quarters that have changed and are quiet, latest first."""
    due = select(rollup_dirty.c.quarter).where(
        rollup_dirty.c.span == Span.QUARTER, rollup_dirty.c.touched_at <= before
    )
    quarters = connection.execute(due.order_by(rollup_dirty.c.quarter.desc()).limit(STEP)).scalars().all()
    return _step_of(connection, kinds, quarters, known.filled_from) if quarters else None


def _step_of(connection: Connection, kinds: Kinds, quarters: Sequence[int], filled_from: int | None) -> _Step:
    traced = [row for one in quarters for row in tracing.of_quarter(connection, one)]
    made = _made(connection, kinds, quarters)
    return _Step(Span.QUARTER, made, filled_from, tracing.of_quarters_instead(quarters, traced))


def _made(connection: Connection, kinds: Kinds, quarters: Iterable[int]) -> list[Made]:
    return [Made(one, of_outcomes(connection, kinds, one)) for one in quarters]


def _unfilled(connection: Connection, kinds: Kinds, known: State, now: datetime) -> _Step | None:
    """The next quarters of one day that were never made, latest first; of a day that is over all of them at once."""
    if known.filled_from == NOTHING_BEFORE:
        return None
    latest = next(_going_back(connection, known.filled_from), None)
    if latest is None:
        return _Step(Span.QUARTER, [], NOTHING_BEFORE)
    day = Span.DAY.of(latest)
    quarters = takewhile(lambda one: one >= day, _going_back(connection, known.filled_from))
    is_new = known.filled_from is None or known.filled_from >= day + Span.DAY
    traced = tracing.of_day(connection, day) if is_new and begin(day + Span.DAY) <= now else None
    if traced is not None:
        made = _made(connection, kinds, quarters)
        return _Step(Span.QUARTER, made, day, tracing.of_day_instead(day, traced))
    some = list(islice(quarters, STEP))
    return _step_of(connection, kinds, some, some[-1])


def _going_back(connection: Connection, quarter: int | None) -> Iterator[int]:
    """The quarters before this one in which outcomes ended."""
    while (quarter := _latest_before(connection, quarter)) is not None:
        yield quarter


def _latest_before(connection: Connection, quarter: int | None) -> int | None:
    latest = select(func.max(outcomes.c.ended_at))
    if quarter is not None:
        latest = latest.where(outcomes.c.ended_at < begin(quarter))
    moment = connection.execute(latest).scalar_one()
    return None if moment is None else quarter_of(moment)


def _coarse(connection: Connection, known: State, before: datetime) -> _Step | None:
    """Hours that are dirty and quiet, and of which no quarter is dirty; where there are none, such days."""
    finer = rollup_dirty.alias()
    for span, parts in ((Span.HOUR, Span.QUARTER), (Span.DAY, Span.HOUR)):
        within = finer.c.quarter.between(rollup_dirty.c.quarter, rollup_dirty.c.quarter + int(span) - 1)
        due = select(rollup_dirty.c.quarter).where(
            rollup_dirty.c.span == span,
            rollup_dirty.c.touched_at <= before,
            ~select(finer.c.quarter).where(finer.c.span < span, within).exists(),
        )
        found = connection.execute(due.limit(STEP if span is Span.HOUR else 1)).scalars().all()
        if found:
            made = [Made(quarter, of_parts(connection, span, parts, quarter)) for quarter in found]
            return _Step(span, made, known.filled_from)
    return None


# --- writing


def _write(database: Database, known: State, kinds: Kinds, step: _Step, now: datetime) -> None:
    rows = [row(kinds, step.span, one) for one in step.made if one.groups]
    spans = [(int(step.span), one.quarter) for one in step.made]
    empty = [(int(step.span), one.quarter) for one in step.made if not one.groups]
    with database.writing() as connection:
        if not _take_turn(connection, known, filled_from=step.filled_from):
            return
        kinds.store(connection)
        _put(connection, rollups, rows)
        _remove(connection, rollups, empty)
        _remove(connection, rollup_dirty, spans)
        if step.span is Span.QUARTER:
            coarser = {(wide, wide.of(one.quarter)) for wide in (Span.HOUR, Span.DAY) for one in step.made}
            _mark(connection, sorted(coarser), now)


def _remove(connection: Connection, table: Any, spans: list[tuple[int, int]]) -> None:
    if spans:
        connection.execute(delete(table).where(tuple_(table.c.span, table.c.quarter).in_(spans)))
