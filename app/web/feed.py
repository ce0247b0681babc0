"""The changes of outcomes, read from the journal once for all live streams of a process."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from app import metrics
from app.cooperative import cooperatively
from app.errors import Overloaded, PlumError
from app.store import journal
from app.store.database import Database
from app.store.journal import Change, Horizon, Span
from app.store.query.question import Question, Records
from app.store.records import among

POLL_SECONDS = 0.5
MAX_STREAMS = 300  # per process: deliveries need connections too
MAX_RECENT_BYTES = 8 << 20  # of the newest batches, kept for clients that are a little slow

Rows = Mapping[UUID, Mapping[str, Any]]

EVERY = Question(records=Records.OUTCOMES)

log = logging.getLogger(__name__)


class Batch:
    """A batch of changes, with the outcomes as they are now, and the position where the next batch begins."""

    def __init__(self, span: Span, changes: list[Change], rows: Rows) -> None:
        self.span = span
        self.rows = rows
        self.changed_at = changes[0].changed_at.timestamp()  # of its first change
        self._changes = changes
        self._texts: dict[Any, list[tuple[Span, UUID, str]]] = {}
        self._rendering = threading.Lock()  # rendering yields to other greenlets, which would render the same
        self.size = sum(map(_size, rows.values()))

    @property
    def rest(self) -> Span:
        return self.span._replace(id=self._changes[-1].id, sent=_sent(self.span, self._changes[-1]))

    def events(self, audience: Any, text: Callable[[Mapping[str, Any]], str]) -> list[tuple[Span, UUID, str]]:
        """Return for each outcome the stream's position after it, its id and its text, rendered once per audience."""
        with self._rendering:
            if audience not in self._texts:
                self._texts[audience] = [
                    (position, key, text(self.rows[key])) for position, key in cooperatively(self._positions())
                ]
            return self._texts[audience]

    def _positions(self) -> Iterator[tuple[Span, UUID]]:
        """Yield each outcome once, at its last change; leave out outcomes that were pruned meanwhile."""
        last_changes = {key: change.id for change in self._changes for key in change.outcome_ids}
        for change in self._changes:
            before = _sent(self.span, change) - len(change.outcome_ids)
            for number, key in enumerate(change.outcome_ids, start=before + 1):
                if last_changes[key] == change.id and key in self.rows:
                    yield self.span._replace(id=change.id, sent=number), key


def _sent(span: Span, change: Change) -> int:
    """Return how many outcomes of the change are sent once the rest of it is sent."""
    return len(change.outcome_ids) + (span.sent if change.id == span.id else 0)


def _size(row: Mapping[str, Any]) -> int:
    """Return the approximate size of the row's texts."""
    return sum(
        len(value if isinstance(value, str) else json.dumps(value)) for value in row.values() if _is_long(value)
    )


def _is_long(value: Any) -> bool:
    return bool(value) and isinstance(value, str | list | dict)


class Recent:
    """The newest batches, shared by all streams, so that a stalled client holds no batches of its own."""

    def __init__(self, limit: int = MAX_RECENT_BYTES) -> None:
        self._limit = limit
        self._batches: deque[Batch] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self.end = 0  # the number of the next batch

    def put(self, batch: Batch) -> None:
        with self._changed:
            self._batches.append(batch)
            self._size += batch.size
            self.end += 1
            while self._size > self._limit and len(self._batches) > 1:
                self._size -= self._batches.popleft().size
            self._changed.notify_all()

    def get(self, number: int, seconds: float) -> Batch | None:
        """Return the batch of this number, or None if it does not come in time. Raises `Behind` if it is gone."""
        with self._changed:
            if number == self.end:
                self._changed.wait(seconds)
            index = number - (self.end - len(self._batches))
            if index < 0:
                raise Behind("its client read too slowly")
            return self._batches[index] if index < len(self._batches) else None


class Behind(PlumError):
    """A stream has missed changes; its client receives them when it reconnects."""


# Renders a batch from the event of this number on. Returns the text and the next event's number, 0 at the end.
Tell = Callable[[Batch, int], tuple[str, int]]


class Piece(NamedTuple):
    """Events as text, and the stream's position after all batches that were sent whole."""

    text: str
    position: Span


class Stream:
    """One client's stream. It sends all changes after `since`, the horizon at which it joined."""

    def __init__(self, since: Horizon, recent: Recent) -> None:
        self.since = since
        self._recent = recent
        self._number = recent.end
        self._next_event = 0  # the number of the next event in the batch
        self._position = Span(since, since)

    def next(self, seconds: float, tell: Tell) -> Piece | None:
        """Return a part of the next batch, or None if none comes in time. Raises `Behind`."""
        batch = self._recent.get(self._number, seconds)
        if batch is None:
            return None
        text, self._next_event = tell(batch, self._next_event)
        if self._next_event:
            return Piece(text, self._position)
        self._number += 1
        self._position = batch.rest
        return Piece(text, self._position)


class Feed:
    """One thread reads the journal while a stream is open. The server replaces `is_stopping`."""

    def __init__(self, database: Database) -> None:
        self.is_stopping: Callable[[], bool] = lambda: False
        self._database = database
        self._streams: set[Stream] = set()
        self._recent = Recent()
        self._is_running = False
        self._horizon = Horizon(0)
        self._rest: Span | None = None  # of a span whose reading failed after some of its batches
        self._up_to_date_at = 0.0
        metrics.LIVE_LAG_SECONDS.set(0)
        self._lock = threading.Lock()  # guards the above; only one thread reads the journal at a time

    def join(self) -> Stream:
        """Open a stream of all changes from now on. Raises `Overloaded`, `StoreUnavailable`."""
        with self._lock:
            if len(self._streams) >= MAX_STREAMS:
                raise Overloaded(f"{MAX_STREAMS} live streams are open; try again later")
            if self._is_running:
                self._advance()
            else:
                self._horizon, self._rest = journal.horizon(self._database), None
                self._up_to_date_at = time.monotonic()
                self._recent = Recent()  # drops the old batches
                threading.Thread(target=self._run, daemon=True).start()
                self._is_running = True
            stream = Stream(self._horizon, self._recent)
            self._streams.add(stream)
            return stream

    def leave(self, stream: Stream) -> None:
        self._streams.discard(stream)

    def read(self, span: Span) -> Iterator[Batch]:
        """Yield all batches of the span, for a stream that resumes after a gap."""
        while changes := journal.page(self._database, span):
            batch = Batch(
                span, changes, self.matching(EVERY, {key for change in changes for key in change.outcome_ids})
            )
            yield batch
            span = batch.rest

    def matching(self, question: Question, ids: Collection[UUID]) -> Rows:
        """Return the rows of those outcomes among `ids` that match the question."""
        return among(self._database, question, ids)

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(POLL_SECONDS):
            with self._lock:
                if not self._streams:
                    self._is_running = False
                    metrics.LIVE_LAG_SECONDS.set(0)  # no stream is open
                    return
                try:
                    self._advance()
                except PlumError as error:
                    log.warning("live streams wait for the store: %s", error.detail)
                metrics.LIVE_LAG_SECONDS.set(time.monotonic() - self._up_to_date_at)

    def _advance(self) -> None:
        began_at = time.monotonic()
        upto = journal.horizon(self._database)
        while upto != self._horizon:
            span = self._rest or Span(self._horizon, upto)
            for batch in self.read(span):
                self._recent.put(batch)
                self._rest = batch.rest
            self._horizon, self._rest = span.upto, None
        self._up_to_date_at = began_at
