"""What has changed, looked up once for all live streams of a process."""

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
MAX_STREAMS = 300  # of a process: deliveries need connections too
MAX_RECENT_BYTES = 8 << 20  # of the newest batches, kept for readers that are a little slow

Rows = Mapping[UUID, Mapping[str, Any]]

EVERY = Question(records=Records.OUTCOMES)

log = logging.getLogger(__name__)


class Batch:
    """Some changes, the outcomes as they are now, and where the next batch begins."""

    def __init__(self, span: Span, found: list[Change], rows: Rows) -> None:
        self.span = span
        self.rows = rows
        self._changes = found
        self._texts: dict[Any, list[tuple[Span, UUID, str]]] = {}
        self._making = threading.Lock()  # making gives others a turn, who would make the same
        self.size = sum(map(_size, rows.values()))

    @property
    def rest(self) -> Span:
        return self.span._replace(id=self._changes[-1].id, sent=_sent(self.span, self._changes[-1]))

    def events(self, audience: Any, text: Callable[[Mapping[str, Any]], str]) -> list[tuple[Span, UUID, str]]:
        """Where a stream stands behind each outcome, its id and its text; made once for each audience."""
        with self._making:
            if audience not in self._texts:
                self._texts[audience] = [(at, key, text(self.rows[key])) for at, key in cooperatively(self._told())]
            return self._texts[audience]

    def _told(self) -> Iterator[tuple[Span, UUID]]:
        """An outcome that changed several times is told at the last; one that is pruned meanwhile, not at all."""
        last = {key: change.id for change in self._changes for key in change.outcome_ids}
        for change in self._changes:
            before = _sent(self.span, change) - len(change.outcome_ids)
            for number, key in enumerate(change.outcome_ids, start=before + 1):
                if last[key] == change.id and key in self.rows:
                    yield self.span._replace(id=change.id, sent=number), key


def _sent(span: Span, change: Change) -> int:
    """How many outcomes of the change are told once all that is left of it is."""
    return len(change.outcome_ids) + (span.sent if change.id == span.id else 0)


def _size(row: Mapping[str, Any]) -> int:
    """Of the row's texts, about."""
    return sum(
        len(value if isinstance(value, str) else json.dumps(value)) for value in row.values() if _is_long(value)
    )


def _is_long(value: Any) -> bool:
    return bool(value) and isinstance(value, str | list | dict)


class Recent:
    """The newest batches, once for all streams: a reader that stalls holds none of its own."""

    def __init__(self, limit: int = MAX_RECENT_BYTES) -> None:
        self._limit = limit
        self._batches: deque[Batch] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self.end = 0  # the number of the batch to come

    def put(self, batch: Batch) -> None:
        with self._changed:
            self._batches.append(batch)
            self._size += batch.size
            self.end += 1
            while self._size > self._limit and len(self._batches) > 1:
                self._size -= self._batches.popleft().size
            self._changed.notify_all()

    def get(self, number: int, seconds: float) -> Batch | None:
        """The batch of this number, or None where it has not come within that time. Raises `Behind`."""
        with self._changed:
            if number == self.end:
                self._changed.wait(seconds)
            at = number - (self.end - len(self._batches))
            if at < 0:
                raise Behind("it was read too slowly")
            return self._batches[at] if at < len(self._batches) else None


class Behind(PlumError):
    """A stream has missed something, which it finds when it is taken up again."""


# What is told of a batch from one of its events on, and with which event to go on; 0 where that was all.
Tell = Callable[[Batch, int], tuple[str, int]]


class Piece(NamedTuple):
    """Events as text, and where the stream stands behind all batches told whole."""

    text: str
    told: Span


class Stream:
    """What one reader is told. `since` is where it joined: nothing before, everything after."""

    def __init__(self, since: Horizon, recent: Recent) -> None:
        self.since = since
        self._recent = recent
        self._number = recent.end
        self._at = 0  # of the batch's events, the next one
        self._told = Span(since, since)

    def next(self, seconds: float, tell: Tell) -> Piece | None:
        """Some of the next batch, which stays with `Recent`; None where none comes. Raises `Behind`."""
        batch = self._recent.get(self._number, seconds)
        if batch is None:
            return None
        text, self._at = tell(batch, self._at)
        if self._at:
            return Piece(text, self._told)
        self._number += 1
        self._told = batch.rest
        return Piece(text, self._told)


class Feed:
    """One thread asks the store; it runs while somebody listens. `is_stopping` is set by the server around it."""

    def __init__(self, database: Database) -> None:
        self.is_stopping: Callable[[], bool] = lambda: False
        self._database = database
        self._streams: set[Stream] = set()
        self._recent = Recent()
        self._is_running = False
        self._horizon = Horizon(0)
        self._up_to_date_at = 0.0
        metrics.LIVE_LAG_SECONDS.set(0)
        self._lock = threading.Lock()  # of the above, and so that one asks at a time

    def join(self) -> Stream:
        """A stream of all that changes from now on. Raises `Overloaded`, `StoreUnavailable`."""
        with self._lock:
            if len(self._streams) >= MAX_STREAMS:
                raise Overloaded(f"{MAX_STREAMS} live streams are open; try again later")
            if self._is_running:
                self._advance()
            else:
                self._horizon = journal.horizon(self._database)
                self._up_to_date_at = time.monotonic()
                self._recent = Recent()  # those of long ago
                threading.Thread(target=self._run, daemon=True).start()
                self._is_running = True
            stream = Stream(self._horizon, self._recent)
            self._streams.add(stream)
            return stream

    def leave(self, stream: Stream) -> None:
        self._streams.discard(stream)

    def read(self, span: Span) -> Iterator[Batch]:
        """All of the span, for a stream that takes up again what it missed."""
        while found := journal.page(self._database, span):
            batch = Batch(span, found, self.matching(EVERY, {key for one in found for key in one.outcome_ids}))
            yield batch
            span = batch.rest

    def matching(self, question: Question, ids: Collection[UUID]) -> Rows:
        """Of these outcomes those that the question asks for."""
        return among(self._database, question, ids)

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(POLL_SECONDS):
            with self._lock:
                if not self._streams:
                    self._is_running = False
                    metrics.LIVE_LAG_SECONDS.set(0)  # nobody waits for anything
                    return
                try:
                    self._advance()
                except PlumError as error:
                    log.warning("live streams wait for the store: %s", error.detail)
                metrics.LIVE_LAG_SECONDS.set(time.monotonic() - self._up_to_date_at)

    def _advance(self) -> None:
        began_at = time.monotonic()
        upto = journal.horizon(self._database)
        if upto != self._horizon:
            for batch in self.read(Span(self._horizon, upto)):
                self._recent.put(batch)
            self._horizon = upto
        self._up_to_date_at = began_at
