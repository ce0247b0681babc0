"""Keeps the copy up to date: fills it once from the store, then follows the journal of changes.

Rows and the position in the journal are written in one transaction of the copy, so the process may be killed at any
time. If the journal no longer holds the newest change that the copy has seen, it is another journal or was pruned
beyond the copy's position; the copy is then filled again.
"""

from __future__ import annotations

import logging
import threading
import time
from uuid import UUID

from sqlalchemy import func, select

from app import metrics
from app.analytics.copy import Copy
from app.analytics.position import Position
from app.analytics.read_ahead import ReadAhead
from app.errors import CopyUnavailable, Damaged, MustReopen, PlumError
from app.store import journal
from app.store.csv_rows import csv_rows, csv_rows_behind
from app.store.database import Database
from app.store.journal import Horizon, Mark, Span
from app.store.schema import outcomes

POLL_SECONDS = 0.5
AFTER_FAULT_SECONDS = 1.0
FILL_ROWS = 20_000
FOLLOW_OUTCOMES = 2_000
FOLLOW_CHANGES = 1_000
LOADED_AT_ONCE = 500  # changed outcomes in one transaction, since each may be large
COUNT_SECONDS = 60.0
BEGINNING_SECONDS = 3.0  # questions wait so long for a fill, since a small store is filled by then
WAIT_SECONDS = 10.0  # for the copy to reach a question's horizon

log = logging.getLogger(__name__)


class Follower:
    """Follows the journal in one thread; questions in other threads wait for it."""

    def __init__(self, database: Database, copy: Copy) -> None:
        self._database = database
        self._copy = copy
        self._outcomes_ahead = ReadAhead(lambda edge: csv_rows_behind(database, edge, FILL_ROWS))
        self._advanced = threading.Condition()
        self._wanted = threading.Event()
        self._filled = 0
        self._store_outcomes: int | None = None
        self._has_begun = False
        self._began_at = time.monotonic()
        self._failure: PlumError | None = None
        self._up_to_date_at = time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """Follow the journal until `stop` is set. Raises `MustReopen`."""
        while not stop.is_set():
            if not self._copy.is_there():
                raise Damaged("the analytical copy was deleted, and is made again")
            self.step()
            if self._failure or not self._is_working:
                self._wanted.wait(AFTER_FAULT_SECONDS if self._failure else POLL_SECONDS)
                self._wanted.clear()

    def step(self) -> None:
        """Process one batch and notify waiting questions. Raises `MustReopen`; any other failure is reported by the
        questions."""
        try:
            self._advance()
            self._failure = None
        except MustReopen:
            raise
        except PlumError as error:
            if self._failure is None:
                log.warning("the analytical copy cannot follow the store: %s", error.detail)
            self._failure = error
        if not self._failure and not self._is_working:
            self._up_to_date_at = time.monotonic()
        metrics.ANALYTICS_LAG_SECONDS.set(time.monotonic() - self._up_to_date_at)
        metrics.ANALYTICS_FILLED.set(self._is_filled)
        with self._advanced:
            self._advanced.notify_all()

    def bring_to(self, horizon: Horizon) -> None:
        """Advance, in the caller's thread, until the copy holds everything up to this horizon. Raises
        `CopyUnavailable`."""
        self.step()
        while self._failure or not self._has_reached(horizon):
            if self._failure:
                raise self._late()
            self.step()

    def wait_for(self, horizon: Horizon) -> None:
        """Wait some seconds until the thread that runs `run` has reached the horizon. Raises `CopyUnavailable`."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self._has_reached(horizon):
            if not self._is_filled and time.monotonic() > self._began_at + BEGINNING_SECONDS:
                raise self._filling()
            self._wait()
            if self._failure or time.monotonic() > deadline:
                raise self._late()

    def _wait(self) -> None:
        self._wanted.set()
        with self._advanced:
            self._advanced.wait(POLL_SECONDS)

    @property
    def _is_filled(self) -> bool:
        return self._copy.position is not None and self._copy.position.is_filled

    @property
    def _is_working(self) -> bool:
        """True if the next batch can follow at once."""
        position = self._copy.position
        return position is None or not position.is_filled or position.span is not None

    def _has_reached(self, horizon: Horizon) -> bool:
        """True if the copy has each change that was visible at `horizon`."""
        position = self._copy.position
        if position is None or not position.is_filled:
            return False
        running = {number for number in position.seen.running if number < horizon.end}
        return position.seen.end >= horizon.end and running <= set(horizon.running)

    def _filling(self) -> CopyUnavailable:
        progress = f" ({self._filled:,} of about {self._store_outcomes:,} outcomes)" if self._store_outcomes else ""
        return CopyUnavailable(f"the analytical copy is being filled{progress}; ask again in a moment")

    def _late(self) -> CopyUnavailable:
        behind = f"the analytical copy is {time.monotonic() - self._up_to_date_at:.0f} s behind the store"
        if self._failure is None:
            return CopyUnavailable(f"{behind}; ask again in a moment")
        return CopyUnavailable(f"{behind}: {self._failure}", f"{behind}: {self._failure.detail}")

    # --- one batch

    def _advance(self) -> None:
        position, now = self._copy.position, journal.horizon(self._database)
        if position is None or not self._is_of_this_journal(position, now):
            self._begin(now)
        elif position.is_filled:
            self._follow(position, now)
        else:
            self._fill(position)

    def _is_of_this_journal(self, position: Position, now: Horizon) -> bool:
        """True if the position belongs to the store's journal.

        A position without a mark was taken while the journal was empty; only the process that took it can recognise
        it.
        """
        if position.mark is None:
            return self._has_begun
        return now.end >= position.seen.end and journal.has(self._database, position.mark)

    def _begin(self, now: Horizon) -> None:
        """Empty the copy. Every change beyond this horizon is followed after the fill."""
        if self._copy.position is not None:
            log.warning("the analytical copy is of another journal, or too old for this one; it is filled again")
        self._copy.clear(Position(now, journal.last(self._database, now)))
        self._has_begun, self._began_at = True, time.monotonic()
        self._store_outcomes = None

    def _fill(self, position: Position) -> None:
        if self._store_outcomes is None:
            self._filled = self._copy.count()
            self._store_outcomes = self._outcomes()
        rows, is_last = self._outcomes_ahead.batch(position.filled_to)
        if is_last:
            self._copy.write(rows, (), position._replace(filled_to=None, is_filled=True))
            log.info("the analytical copy is filled")
            return
        self._copy.write(rows, (), position._replace(filled_to=(rows[-1].ended_at, rows[-1].id)))
        self._filled += len(rows)

    def _outcomes(self) -> int:
        with self._database.reading(COUNT_SECONDS) as connection:
            return connection.execute(select(func.count()).select_from(outcomes)).scalar_one()

    def _follow(self, position: Position, now: Horizon) -> None:
        span = position.span or Span(position.seen, now)
        if span.seen == span.upto:
            return
        ids, newest, rest = self._changed(span, position.mark)
        if position.mark is not None and not journal.has(self._database, position.mark):
            return  # pruned meanwhile, perhaps with changes that were not read; the next step fills the copy again
        final = Position(span.upto, newest, is_filled=True)
        if not ids and not position.span:
            self._copy.position = final  # not stored: the next process that opens the file finds no changes either
            return
        reached = final if rest is None else Position(position.seen, newest, rest, is_filled=True)
        self._copy_outcomes(sorted(ids), position, reached)

    def _copy_outcomes(self, ids: list[UUID], position: Position, reached: Position) -> None:
        """Copy these outcomes in separate transactions, since they may be large. The last one stores the position."""
        while True:
            batch, others = ids[:LOADED_AT_ONCE], ids[LOADED_AT_ONCE:]
            rows, unread = csv_rows(self._database, batch)
            ids = [*unread, *others]
            self._copy.write(rows, set(batch).difference(unread), position if ids else reached)
            if not ids:
                return

    def _changed(self, span: Span, newest: Mark | None) -> tuple[set[UUID], Mark | None, Span | None]:
        """Return some of the outcomes that changed within the span, the newest change, and the rest of the span."""
        ids: set[UUID] = set()
        while len(ids) < FOLLOW_OUTCOMES:
            page = journal.page(self._database, span, FOLLOW_CHANGES, FOLLOW_OUTCOMES)
            if not page:
                return ids, newest, None
            ids.update(key for change in page for key in change.outcome_ids)
            newest = max(filter(None, (newest, Mark(page[-1].id, page[-1].changed_at))))
            span = span._replace(id=page[-1].id + 1, sent=0)
        return ids, newest, span
