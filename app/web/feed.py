"""What has changed, looked up once for all live streams of a process."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from uuid import UUID

from app.errors import PlumError
from app.pace import in_turns
from app.store import changes
from app.store.answers.among import among
from app.store.asking.questions import Question, Records
from app.store.changes import Change, Horizon, Span
from app.store.database import Database
from app.web.errors import Overloaded

POLL_SECONDS = 0.5
MAX_STREAMS = 300  # of a process: deliveries need connections too
MAX_WAITING = 200  # batches that a slow reader may leave lying

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

    @property
    def rest(self) -> Span:
        return self.span._replace(id=self._changes[-1].id, sent=_sent(self.span, self._changes[-1]))

    def events(self, audience: Any, text: Callable[[Mapping[str, Any]], str]) -> list[tuple[Span, UUID, str]]:
        """Where a stream stands behind each outcome, its id and its text; made once for each audience."""
        with self._making:
            if audience not in self._texts:
                self._texts[audience] = [(at, key, text(self.rows[key])) for at, key in in_turns(self._told())]
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


class Stream:
    """What waits for one reader. `since` is where it joined: nothing before, everything after."""

    def __init__(self, since: Horizon) -> None:
        self.since = since
        self.is_behind = False  # it read too slowly and has missed something
        self._waiting: queue.Queue[Batch] = queue.Queue(MAX_WAITING)

    def put(self, batch: Batch) -> None:
        if self.is_behind:
            return
        try:
            self._waiting.put_nowait(batch)
        except queue.Full:
            self.is_behind = True

    @property
    def is_empty(self) -> bool:
        return self._waiting.empty()

    def next(self, seconds: float) -> Batch | None:
        try:
            return self._waiting.get(timeout=seconds)
        except queue.Empty:
            return None


class Feed:
    """One thread asks the store; it runs while somebody listens. `is_stopping` is set by the server around it."""

    def __init__(self, database: Database) -> None:
        self.is_stopping: Callable[[], bool] = lambda: False
        self._database = database
        self._streams: set[Stream] = set()
        self._is_running = False
        self._horizon = Horizon(0)
        self._lock = threading.Lock()  # of the above, and so that one asks at a time

    def join(self) -> Stream:
        """A stream of all that changes from now on. Raises `Overloaded`, `StoreUnavailable`."""
        with self._lock:
            if len(self._streams) >= MAX_STREAMS:
                raise Overloaded(f"{MAX_STREAMS} live streams are open; try again later")
            if self._is_running:
                self._advance()
            else:
                self._horizon = changes.horizon(self._database)
                threading.Thread(target=self._run, daemon=True).start()
                self._is_running = True
            stream = Stream(self._horizon)
            self._streams.add(stream)
            return stream

    def leave(self, stream: Stream) -> None:
        self._streams.discard(stream)

    def read(self, span: Span) -> Iterator[Batch]:
        """All of the span, for a stream that takes up again what it missed."""
        while found := changes.page(self._database, span):
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
                    return
                try:
                    self._advance()
                except PlumError as error:
                    log.warning("live streams wait for the store: %s", error.detail)

    def _advance(self) -> None:
        upto = changes.horizon(self._database)
        if upto == self._horizon:
            return
        for batch in self.read(Span(self._horizon, upto)):
            for stream in list(self._streams):
                stream.put(batch)
        self._horizon = upto
