"""Making roll-ups: what is dirty is made anew from the outcomes, never added to.

Each step reads and reckons outside of any write transaction, then writes within a few milliseconds, and only if no
one else has written since its reading began: of two that refresh at once one step is lost and taken again. Quarters
are made of outcomes, hours of quarters, days of hours.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from app.model import AnsweredBy, Disposition
from app.store import changes, multisets, tallies
from app.store.covering import WORDS
from app.store.database import Database
from app.store.quarters import Span, begin, quarter_of
from app.store.schema import changes as notes
from app.store.schema import outcomes, rollup_dirty, rollup_kinds, rollup_state, rollups
from app.store.standing import NOTHING_BEFORE, State, beyond, is_of_another_time, noted_since, state
from app.store.tallies import Groups, Tally

KIND = tuple(name for name in WORDS if name != "batch")
QUIET = timedelta(seconds=10)  # what changes faster is left to questions, which read its outcomes
STEP = 32  # spans made before they are written
SLOW_SECONDS = 120.0

Kind = tuple[str | None, ...]
_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Made(NamedTuple):
    """The roll-up of a span, and of which groups it is."""

    quarter: int
    groups: Groups


class Kinds:
    """The numbers of the combinations of words, those that are new among them."""

    def __init__(self, connection: Connection) -> None:
        self.words: dict[int, Kind] = {row[0]: tuple(row[1:]) for row in connection.execute(select(rollup_kinds))}
        self._numbers = {kind: number for number, kind in self.words.items()}
        self._known = len(self.words)

    def number(self, kind: Kind) -> int:
        if kind not in self._numbers:
            self._numbers[kind] = len(self._numbers) + 1
            self.words[self._numbers[kind]] = kind
        return self._numbers[kind]

    def store(self, connection: Connection) -> None:
        names = rollup_kinds.c.keys()
        fresh = [(number, *kind) for number, kind in self.words.items() if number > self._known]
        if fresh:
            connection.execute(insert(rollup_kinds), [dict(zip(names, row, strict=True)) for row in fresh])


def refresh(database: Database, now: datetime, quiet: timedelta = QUIET) -> bool:
    """One step; whether more is to be done at once. Raises `StoreUnavailable`."""
    _collect(database, now)
    with database.reading(SLOW_SECONDS) as connection:
        known, kinds = state(connection), Kinds(connection)
        made, filled_from = _quarters(connection, kinds, known, now - quiet)
        span = Span.QUARTER
        if not made and filled_from == known.filled_from:
            span, made = _coarse(connection, now - quiet)
    if not made and filled_from == known.filled_from:
        return False
    _write(database, known, kinds, span, made, filled_from, now)
    return True


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


def _quarters(connection: Connection, kinds: Kinds, known: State, before: datetime) -> tuple[list[Made], int | None]:
    """Those that are dirty and quiet; where there are none, the next of those that were never made, latest first."""
    due = select(rollup_dirty.c.quarter).where(
        rollup_dirty.c.span == Span.QUARTER, rollup_dirty.c.touched_at <= before
    )
    dirty = connection.execute(due.order_by(rollup_dirty.c.quarter.desc()).limit(STEP)).scalars().all()
    if dirty:
        return [Made(quarter, _of_outcomes(connection, kinds, quarter)) for quarter in dirty], known.filled_from
    made: list[Made] = []
    filled_from = known.filled_from
    while filled_from != NOTHING_BEFORE and len(made) < STEP:
        filled_from = _latest_before(connection, filled_from)
        if filled_from != NOTHING_BEFORE:
            made.append(Made(filled_from, _of_outcomes(connection, kinds, filled_from)))
    return made, filled_from


def _latest_before(connection: Connection, quarter: int | None) -> int:
    """The latest quarter before this one in which an outcome ended."""
    latest = select(func.max(outcomes.c.ended_at))
    if quarter is not None:
        latest = latest.where(outcomes.c.ended_at < begin(quarter))
    moment = connection.execute(latest).scalar_one()
    return NOTHING_BEFORE if moment is None else quarter_of(moment)


def _coarse(connection: Connection, before: datetime) -> tuple[Span, list[Made]]:
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
            return span, [Made(quarter, _of_parts(connection, span, parts, quarter)) for quarter in found]
    return Span.DAY, []


def _of_outcomes(connection: Connection, kinds: Kinds, quarter: int) -> Groups:
    key = [*(outcomes.c[name] for name in KIND), outcomes.c.batch, outcomes.c.duration_seconds]
    attempts = outcomes.c.attempts
    counted = select(*key, func.count(), func.sum(attempts), func.count(attempts)).where(
        outcomes.c.ended_at >= begin(quarter), outcomes.c.ended_at < begin(quarter + 1)
    )
    made = tallies.groups()
    for *words, batch, duration, count, attempts, attempted in connection.execute(counted.group_by(*key)):
        tally = made[batch][kinds.number(tuple(words))]
        tally.count += count
        tally.attempts += attempts or 0
        tally.attempted += attempted
        if duration is not None:
            tally.durations.count(duration, count)
    return made


def _of_parts(connection: Connection, span: Span, parts: Span, quarter: int) -> Groups:
    finer = select(rollups.c.batches, rollups.c.batch_durations).where(
        rollups.c.span == parts, rollups.c.quarter >= quarter, rollups.c.quarter < quarter + span
    )
    made = tallies.groups()
    for heads, packed in connection.execute(finer):
        durations, at = tallies.unpack_durations(packed), 0
        for batch, cells in tallies.unpack(heads):
            for kind, total, attempts, attempted, length in tallies.unpack_cells(cells):
                tally = made[batch][kind]
                tally.count += total
                tally.attempts += attempts
                tally.attempted += attempted
                tally.durations.add(durations[at : at + length])
                at += length
    return made


# --- writing


def _write(
    database: Database,
    known: State,
    kinds: Kinds,
    span: Span,
    made: list[Made],
    filled_from: int | None,
    now: datetime,
) -> None:
    rows = [_row(kinds, span, one) for one in made if one.groups]
    empty = [(int(span), one.quarter) for one in made if not one.groups]
    with database.writing() as connection:
        if not _take_turn(connection, known, filled_from=filled_from):
            return
        kinds.store(connection)
        _put(connection, rollups, rows)
        _remove(connection, rollups, empty)
        _remove(connection, rollup_dirty, [(int(span), one.quarter) for one in made])
        if span is Span.QUARTER:
            coarser = {(wide, wide.of(one.quarter)) for wide in (Span.HOUR, Span.DAY) for one in made}
            _mark(connection, sorted(coarser), now)


def _remove(connection: Connection, table: Any, spans: list[tuple[int, int]]) -> None:
    if spans:
        connection.execute(delete(table).where(tuple_(table.c.span, table.c.quarter).in_(spans)))


def _row(kinds: Kinds, span: Span, made: Made) -> dict[str, Any]:
    whichever, total = tallies.groups(), Tally()
    for of_batch in made.groups.values():
        for number, tally in of_batch.items():
            whole = whichever[None][number]
            words = dict(zip(KIND, kinds.words[number], strict=True))
            for sum_ in (whole, total):
                sum_.count += tally.count
                sum_.attempts += tally.attempts
                sum_.attempted += tally.attempted
                sum_.durations.counts().update(tally.durations.counts())
            total.answered += tally.count * (words["disposition"] == Disposition.ANSWERED)
            total.human += tally.count * (words["answered_by"] == AnsweredBy.HUMAN)
            total.known += tally.count * (words["answered_by"] is not None)
    batches, batch_durations = tallies.pack(made.groups)
    packed, kind_durations = tallies.pack(whichever)
    sums = {name: getattr(total, name) for name in tallies.SUMS}
    blobs = {
        "batches": batches,
        "batch_durations": batch_durations,
        "kinds": packed,
        "kind_durations": kind_durations,
    }
    durations = multisets.pack(total.durations.counts())
    return {"span": int(span), "quarter": made.quarter, "durations": durations, **sums, **blobs}
