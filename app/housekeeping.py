"""What runs beside the web workers: it drains the spool, keeps known keys and roll-ups up to date, and counts what is
new in deliveries.

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

from app import metrics
from app.errors import StoreUnavailable
from app.intake.breaker import within
from app.intake.known_keys import KnownKeys
from app.intake.spool import Spool
from app.intake.writer import Record, count_readings
from app.model import Delivery, KnownKey

LOCK = "housekeeping.lock"
PAUSE_SECONDS = 0.5
PATIENCE_SECONDS = 12.0  # with a store that hangs
MAX_DRAINED_AT_ONCE = 200
PRUNE_SECONDS = 3600.0
DRIFT_SECONDS = 0.5  # of looking for drift, before the spool is looked at again
DRIFT_REST = 19  # times as long as a step took: callbacks need the processor
MAX_REST_SECONDS = 2.0
AFTER_FAULT_SECONDS = 60.0

log = logging.getLogger(__name__)


class Housekeeping:
    """The chores, and the loop that does them until `stop` is set."""

    def __init__(
        self,
        spool: Spool,
        record: Record,
        known_keys: KnownKeys,
        active_keys: Callable[[], Mapping[str, KnownKey]],
        forget: Callable[[], None],
        prune_changes: Callable[[], object],
        drift: Callable[[], bool],
        count_drift: Callable[[], int],
        roll_up: Callable[[threading.Event], object],
    ) -> None:
        """`forget` gives up the store's connections, some of which may hang for ever; `drift` makes one step, and
        says whether there may be another."""
        self._spool = spool
        self._record = record
        self._known_keys = known_keys
        self._active_keys = active_keys
        self._forget = forget
        self._prune_changes = prune_changes
        self._roll_up = roll_up
        self._prune_at = 0.0
        self._drift = drift
        self._count_drift = count_drift
        self._drift_at = 0.0
        self._is_drift_shown = False

    def run(self, stop: threading.Event) -> None:
        with _alone(self._spool.directory, stop) as alone:
            if alone:  # in a thread of its own: no long look at outcomes may keep the spool waiting
                threading.Thread(target=self._roll_up, args=(stop,), name="roll-ups", daemon=True).start()
            while alone and not stop.is_set():
                if not self._tidy():
                    stop.wait(PAUSE_SECONDS)

    def _tidy(self) -> int:
        """How many deliveries were drained."""
        try:
            self._known_keys.replace(within(PATIENCE_SECONDS, self._active_keys))
            drained = self.drain()
            if not drained and not self.watch_drift():
                self._prune()
            return drained
        except StoreUnavailable as error:
            log.warning("waiting for the store: %s", error)
            self._forget()
        except OSError as error:
            log.error("the spool directory cannot be used: %s", error)
        return 0

    def _prune(self) -> None:
        """Forget which outcomes changed long ago; no live stream is taken up again so late."""
        if time.monotonic() >= self._prune_at:
            within(PATIENCE_SECONDS, self._prune_changes)
            self._prune_at = time.monotonic() + PRUNE_SECONDS

    def watch_drift(self) -> bool:
        """Whether more of the journal is to be looked at: so long it must not be pruned. Raises `StoreUnavailable`.

        A fault here costs neither the draining nor the pruning.
        """
        if time.monotonic() < self._drift_at:
            return False
        try:
            return self._look_for_drift(time.monotonic() + DRIFT_SECONDS)
        except StoreUnavailable:
            raise
        except Exception as error:
            log.error("what is new in deliveries cannot be counted", exc_info=error)
            self._drift_at = time.monotonic() + AFTER_FAULT_SECONDS
            return False

    def _look_for_drift(self, until: float) -> bool:
        steps, began = 0, time.monotonic()
        while is_more := within(PATIENCE_SECONDS, self._drift):
            steps += 1
            time.sleep(min((time.monotonic() - began) * DRIFT_REST, MAX_REST_SECONDS))
            began = time.monotonic()
            if began >= until:
                break
        if steps or not self._is_drift_shown:
            metrics.DRIFT_ITEMS.set(within(PATIENCE_SECONDS, self._count_drift))
            self._is_drift_shown = True
        return is_more

    def drain(self) -> int:
        """Bring the oldest files into the store; how many deliveries. Raises `StoreUnavailable`."""
        files: list[Path] = []
        deliveries: list[Delivery] = []
        for file in self._spool.files():
            found, whole = self._spool.read(file)
            if not whole:
                return self._drain_torn(file, found)
            files.append(file)
            deliveries.extend(found)
            if len(deliveries) >= MAX_DRAINED_AT_ONCE:
                break
        if files:
            self._store(files, deliveries)
        return len(deliveries)

    def _drain_torn(self, file: Path, readable: list[Delivery]) -> int:
        if readable:
            self._stored(file, readable)
        self._spool.set_aside(file)
        return len(readable)

    def _store(self, files: list[Path], deliveries: list[Delivery]) -> None:
        if self._stored(files[0], deliveries):
            self._spool.remove(files)
        elif len(files) == 1:
            self._spool.set_aside(files[0])
        else:
            for file in files:
                self._store([file], self._spool.read(file)[0])

    def _stored(self, first: Path, deliveries: list[Delivery]) -> bool:
        """Whether the store took them; one file that it cannot take must not block those behind it."""
        try:
            receipts = within(PATIENCE_SECONDS, lambda: self._record(deliveries))
        except StoreUnavailable:
            raise
        except Exception as error:
            log.error("what %s and those with it hold cannot be stored", first.name, exc_info=error)
            return False
        count_readings(receipts)
        metrics.DRAINED.inc(len(deliveries))
        return True


def is_running(directory: Path) -> bool:
    """Whether some process keeps house for this spool."""
    try:
        with (directory / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


@contextmanager
def _alone(directory: Path, stop: threading.Event) -> Iterator[bool]:
    """Holds the lock within; True once it is had, False where `stop` came first."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("w") as lock:
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stop.wait(PAUSE_SECONDS)
                continue
            lock.write(str(os.getpid()))
            lock.flush()
            yield True
            return
        yield False
