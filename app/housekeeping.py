"""What runs beside the web workers: it drains the spool, and keeps known keys up to date.

One at a time for each spool directory; a second one waits until the first is gone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from app import metrics
from app.errors import StoreUnavailable
from app.intake.breaker import within
from app.intake.groups import in_groups
from app.intake.known_keys import KnownKeys
from app.intake.spool import Piece, Spool
from app.intake.writer import PORTION_BYTES, Interpret, Save
from app.model import Delivery, KnownKey, Reading

LOCK = "housekeeping.lock"  # each round of the main loop touches it
PAUSE_SECONDS = 0.5
PATIENCE_SECONDS = 12.0  # with a store that hangs
MAX_DRAINED_AT_ONCE = 200
QUIET_SECONDS = 60.0  # between two lines about a spool directory that cannot be used

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Housekeeping:
    """The chores, and the loop that does them until `stop` is set."""

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
        """`rehearse` raises `StoreUnavailable` while the store takes no delivery at all; `forget` gives up
        connections, some of which may hang for ever.
        """
        self._spool = spool
        self._waiting: Iterator[Piece] = iter(())
        self._save = save
        self._read = read
        self._rehearse = rehearse
        self._known_keys = known_keys
        self._active_keys = active_keys
        self._forget = forget
        self._truncate_wal = truncate_wal
        self._renew_journal = renew_journal
        self._knows_journal = False
        self._quiet_until = 0.0
        self._beat: Callable[[], object] = lambda: None

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._keep_house(stop)
            except OSError as error:
                self._complain(error)
                stop.wait(PAUSE_SECONDS)

    def _keep_house(self, stop: threading.Event) -> None:
        """Raises `OSError` where the spool's directory cannot be used."""
        with _alone(self._spool.directory, stop) as beat:
            if beat is None:
                return
            self._beat = beat
            self._spool.retry()
            while not stop.is_set() and beat():
                if not self._tidy():
                    stop.wait(PAUSE_SECONDS)

    def _tidy(self) -> int:
        """How many deliveries were drained."""
        metrics.CHORE_RUNS.labels("spool").inc()
        try:
            self._know_journal()
            self._known_keys.replace(self._asked(self._active_keys))
            self._asked(self._truncate_wal)
            return self.drain()
        except StoreUnavailable as error:
            metrics.CHORE_FAILURES.labels("spool").inc()
            log.warning("waiting for the store: %s", error.detail)
            self._knows_journal = False  # it may come back from a dump
            self._forget()
        except OSError as error:
            metrics.CHORE_FAILURES.labels("spool").inc()
            self._complain(error)
        return 0

    def _know_journal(self) -> None:
        if not self._knows_journal and self._asked(self._renew_journal):
            log.warning("the store is on another server, whose transactions are numbered anew: so is the journal now")
        self._knows_journal = True

    def _complain(self, error: OSError) -> None:
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            log.error("the spool directory cannot be used: %s: %s", self._spool.directory, error.strerror)

    def _asked(self, ask: Callable[[], _T]) -> _T:
        """Within the patience that there is with a store; each answer shows that this process goes on."""
        self._beat()
        return within(PATIENCE_SECONDS, ask)

    def drain(self) -> int:
        """Bring a batch of the spool into the store; how many deliveries. Raises `StoreUnavailable`, `OSError`.

        What the store cannot take is set aside, one by one: it costs its neighbours nothing.
        """
        try:
            batch = self._batch()
            deliveries = [delivery for piece in batch for delivery in piece.deliveries]
            if refused := self._refused(deliveries):
                self._asked(self._rehearse)
                self._spool.set_aside(refused)
            for piece in batch:
                self._spool.drained(piece)
        except (StoreUnavailable, OSError):
            self._waiting = iter(())  # it begins anew, where the drained ends
            raise
        return len(deliveries)

    def _batch(self) -> list[Piece]:
        """The next of those that one listing of the spool has found; where there are none, of another."""
        batch = list(_next(self._waiting))
        if not batch:
            self._waiting = self._spool.pieces()
            batch = list(_next(self._waiting))
        return batch

    def _refused(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Those that the store does not take; it has the others."""
        if not deliveries:
            return []
        try:
            readings = self._understood(deliveries)
            self._asked(lambda: self._save(readings))
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

    def _understood(self, deliveries: list[Delivery]) -> list[Reading]:
        """Apart from the patience with the store: what takes long here is not its fault."""
        found: list[Reading] = []
        for portion in in_groups(deliveries, MAX_DRAINED_AT_ONCE, PORTION_BYTES):
            self._beat()
            found += self._read(portion)
        return found


def _next(pieces: Iterator[Piece]) -> Iterator[Piece]:
    count = 0
    for piece in pieces:
        yield piece
        count += len(piece.deliveries)
        if count >= MAX_DRAINED_AT_ONCE:
            return


def heartbeat_age(directory: Path) -> float | None:
    """For how many seconds whoever keeps house for this spool has not gone on; None where nobody does."""
    try:
        with (directory / LOCK).open() as lock:
            beaten_at = os.fstat(lock.fileno()).st_mtime
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return max(0.0, time.time() - beaten_at)
    except OSError:
        return None
    return None


def _beats(lock: int, file: Path) -> bool:
    os.utime(lock)
    try:
        return os.path.samestat(os.fstat(lock), file.stat())
    except OSError:
        return False


@contextmanager
def _alone(directory: Path, stop: threading.Event) -> Iterator[Callable[[], bool] | None]:
    """Holds the lock within; how to show that one goes on, once it is had, None where `stop` came first.

    That is False once the file is gone: then others find no lock, and it has to be taken anew.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("a") as lock:
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stop.wait(PAUSE_SECONDS)
                continue
            yield lambda: _beats(lock.fileno(), directory / LOCK)
            return
        yield None
