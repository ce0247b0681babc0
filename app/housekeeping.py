"""Housekeeping beside the web workers: it drains the spool and keeps the known keys up to date.

Each spool directory has one housekeeping process at a time; a second one waits until the first has ended.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from app import metrics
from app.errors import StoreUnavailable
from app.intake.breaker import within
from app.intake.groups import in_parts, in_portions
from app.intake.known_keys import KnownKeys
from app.intake.spool import Piece, Spool
from app.intake.writer import Interpret, Save
from app.model import Delivery, KnownKey, Reading

LOCK = "housekeeping.lock"  # its modification time is the heartbeat
PAUSE_SECONDS = 0.5
STORE_SECONDS = 12.0  # the time limit of a call to a store that hangs
MAX_DRAINED_AT_ONCE = 200
QUIET_SECONDS = 60.0  # between two log lines about the spool's directory, or about a file that cannot be drained

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Housekeeping:
    """The chores, and the loop that runs them."""

    def __init__(
        self,
        spool: Spool,
        read: Interpret,
        save: Save,
        rehearse: Callable[[], object],
        known_keys: KnownKeys,
        active_keys: Callable[[], Mapping[str, KnownKey]],
        forget: Callable[[], None],
        truncate_wal: Callable[[], object],
        renew_journal: Callable[[], bool],
    ) -> None:
        """`rehearse` raises `StoreUnavailable` while the store takes no delivery at all; `forget` discards
        connections, some of which may hang forever.
        """
        self._spool = spool
        self._waiting: Iterator[Piece] = iter(())
        self._passed_over: dict[Path, float] = {}  # until when; looked at when a listing begins
        self._save = save
        self._read = read
        self._rehearse = rehearse
        self._known_keys = known_keys
        self._active_keys = active_keys
        self._forget = forget
        self._truncate_wal = truncate_wal
        self._renew_journal = renew_journal
        self._has_checked_journal = False
        self._quiet_until = 0.0
        self._beat: Callable[[], object] = lambda: None

    def run(self, stop: threading.Event) -> None:
        """Run until `stop` is set."""
        while not stop.is_set():
            try:
                self._run_with_lock(stop)
            except OSError as error:
                self._complain(error)
                stop.wait(PAUSE_SECONDS)

    def _run_with_lock(self, stop: threading.Event) -> None:
        """Raises `OSError` if the spool's directory is unusable."""
        with _locked(self._spool.directory, stop) as beat:
            if beat is None:
                return
            self._beat = beat
            self._spool.retry()
            while not stop.is_set() and beat():
                if not self._run_chores():
                    stop.wait(PAUSE_SECONDS)

    def _run_chores(self) -> int:
        """Return how many deliveries were drained."""
        metrics.CHORE_RUNS.labels("spool").inc()
        try:
            self._check_journal()
            self._known_keys.replace(self._in_time(self._active_keys))
            self._in_time(self._truncate_wal)
            return self.drain()
        except StoreUnavailable as error:
            metrics.CHORE_FAILURES.labels("spool").inc()
            log.warning("waiting for the store: %s", error.detail)
            self._has_checked_journal = False  # it may return restored from a dump
            self._forget()
        except OSError as error:
            metrics.CHORE_FAILURES.labels("spool").inc()
            self._complain(error)
        return 0

    def _check_journal(self) -> None:
        if not self._has_checked_journal and self._in_time(self._renew_journal):
            log.warning(
                "the store was moved to another server, which numbers transactions anew; the journal is renewed"
            )
        self._has_checked_journal = True

    def _complain(self, error: OSError) -> None:
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            log.error("the spool directory cannot be used: %s: %s", self._spool.directory, error.strerror)

    def _in_time(self, call: Callable[[], _T]) -> _T:
        """Call the store with a time limit, after a heartbeat."""
        self._beat()
        return within(STORE_SECONDS, call)

    def drain(self) -> int:
        """Move a batch from the spool into the store; return how many deliveries were moved. Raises
        `StoreUnavailable`, `OSError`.

        A delivery that the store refuses is set aside by itself; the others of its batch are stored. A file that
        cannot be changed is passed over for a minute, and blocks no other.
        """
        try:
            batch = self._batch()
            refused = self._refused([delivery for piece in batch for delivery in piece.deliveries])
            if refused:
                self._in_time(self._rehearse)
        except (StoreUnavailable, OSError):
            self._waiting = iter(())  # the next batch begins behind the last drained piece
            raise
        refused_ids = {delivery.id for delivery in refused}
        return sum(self._note(piece, refused_ids) for piece in batch)

    def _batch(self) -> list[Piece]:
        """Return the next pieces of the current listing of the spool, or of a new one at its end."""
        batch = list(_next(self._waiting))
        if not batch:
            now = time.monotonic()
            self._passed_over = {file: until for file, until in self._passed_over.items() if until > now}
            self._waiting = self._spool.pieces()
            batch = list(_next(self._waiting))
        return [piece for piece in batch if piece.file not in self._passed_over]

    def _note(self, piece: Piece, refused: Collection[UUID]) -> int:
        """Record that a piece is in the store, but for what it refuses; return the number of its deliveries.

        After a failure the later pieces of the file are not recorded either, since that would skip this one.
        """
        if piece.file in self._passed_over:
            return 0
        try:
            if aside := [delivery for delivery in piece.deliveries if delivery.id in refused]:
                self._spool.set_aside(aside)
            self._spool.drained(piece)
        except OSError as error:
            metrics.CHORE_FAILURES.labels("spool").inc()
            self._passed_over[piece.file] = time.monotonic() + QUIET_SECONDS
            log.error("%s cannot be drained, the other files are: %s", piece.file, error.strerror)
            return 0
        return len(piece.deliveries)

    def _refused(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Store the deliveries; return those that the store refuses."""
        if not deliveries:
            return []
        try:
            for readings in in_parts(self._interpret(deliveries)):
                self._in_time(partial(self._save, readings))
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(deliveries) > 1:
                half = len(deliveries) // 2
                return self._refused(deliveries[:half]) + self._refused(deliveries[half:])
            about = {"delivery": deliveries[0].id}
            log.error("a delivery in the spool cannot be stored", exc_info=error, extra=about)
            return deliveries
        metrics.DRAINED.inc(len(deliveries))
        return []

    def _interpret(self, deliveries: list[Delivery]) -> Iterator[list[Reading]]:
        """Parse the deliveries. The store's time limit does not include this."""
        for portion in in_portions(deliveries):
            self._beat()
            yield self._read(portion)


def _next(pieces: Iterator[Piece]) -> Iterator[Piece]:
    count = 0
    for piece in pieces:
        yield piece
        count += len(piece.deliveries)
        if count >= MAX_DRAINED_AT_ONCE:
            return


def heartbeat_age(directory: Path) -> float | None:
    """Return the seconds since the last heartbeat of this spool's housekeeping; None if none runs."""
    try:
        with (directory / LOCK).open() as lock:
            beaten_at = os.fstat(lock.fileno()).st_mtime
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return max(0.0, time.time() - beaten_at)
    except OSError:
        return None
    return None


def _beat(lock: int, file: Path) -> bool:
    """Touch the lock file; False if the file was deleted or replaced."""
    os.utime(lock)
    try:
        return os.path.samestat(os.fstat(lock), file.stat())
    except OSError:
        return False


@contextmanager
def _locked(directory: Path, stop: threading.Event) -> Iterator[Callable[[], bool] | None]:
    """Hold the directory's lock; yield the function for the heartbeat, or None if `stop` was set first.

    The heartbeat is False once the lock's file is gone: other processes do not see the lock then, and it has to be
    acquired again.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("a") as lock:
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stop.wait(PAUSE_SECONDS)
                continue
            yield lambda: _beat(lock.fileno(), directory / LOCK)
            return
        yield None
