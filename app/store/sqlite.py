"""SQLite as this product needs it: durable, few large commits, and never a wait that stops other requests."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from gevent import get_hub, monkey
from sqlalchemy import URL, Connection, Engine, create_engine, event, exc

from app.errors import ConfigError
from app.store.sqlite_threads import QuestionCursor, Threads

WAIT_SECONDS = 2  # for the lock
POOL_SECONDS = 3
# Fewer, larger checkpoints: each copies the pages that changed and waits for the disk twice.
PAGE_BYTES = 2048  # ids are random, so each new row changes a page of its own in their index: a small one costs less
CHECKPOINT_PAGES = 8000
MAX_WAL_BYTES = 64 << 20
RELEASED_PAGES = 400  # at a time


def engine(url: URL, connections: int) -> Engine:
    """Raises `ConfigError`."""
    file = url.database
    if not file or file == ":memory:":
        raise ConfigError("SQLite needs a file that outlives the process; use sqlite:///FILE")
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{Path(file).parent} cannot be made: {error.strerror}") from None
    made = create_engine(
        url,
        connect_args={"factory": _CommitAside},
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        hide_parameters=True,
    )
    threads = Threads(connections)
    event.listen(made, "connect", lambda connection, _record: _open(connection, threads))
    event.listen(made, "begin", _begin)
    return made


def wal_bytes(file: str) -> int:
    try:
        return Path(f"{file}-wal").stat().st_size
    except OSError:  # there is none
        return 0


def truncate_wal(file: str, above: int) -> bool:
    """Bring a WAL that has become larger than `above` into the file, and empty it; whether none that large is left.

    Most is done without a lock. Where somebody reads or writes at the end, nothing waits: it is for another time.
    """
    if wal_bytes(file) <= above:
        return True
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file, timeout=0)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        [(is_busy, *_)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return not is_busy
    return False


def release_space(file: str) -> None:
    """Give some pages of what was deleted back to the file system; where somebody writes, another time.

    A file of releases before `auto_vacuum` has its pages used again, until somebody vacuums it.
    """
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file, timeout=WAIT_SECONDS)) as connection:
        # As a script: by a mere statement Python's module would free one page of them.
        connection.executescript(f"PRAGMA incremental_vacuum({RELEASED_PAGES})")


class _CommitAside(sqlite3.Connection):
    """Under gevent waits for the disk in a thread of its own; else every request of the process would wait too."""

    step_seconds: float | None = None  # the seconds that each step of a question has; None while it writes
    threads: Threads  # in which questions wait

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        return super().cursor(QuestionCursor if self.step_seconds else factory)

    def commit(self) -> None:
        failure = get_hub().threadpool.apply(self._try) if monkey.is_module_patched("threading") else self._try()
        if failure:
            raise failure

    def _try(self) -> sqlite3.Error | None:
        """A failure is handed over: one raised in the thread would be printed there as well."""
        try:
            super().commit()
        except sqlite3.Error as error:
            return error
        return None


def _open(connection: _CommitAside, threads: Threads) -> None:
    connection.threads = threads
    connection.isolation_level = None  # transactions begin in _begin
    for pragma in (
        f"page_size={PAGE_BYTES}",
        "auto_vacuum=INCREMENTAL",  # of a new file: what retention deletes can be given back
        "secure_delete=ON",  # what is deleted holds phone numbers
        "busy_timeout=2000",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        f"journal_size_limit={MAX_WAL_BYTES}",
        "busy_timeout=0",  # SQLite's own way of waiting would stop every greenlet of the process
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """BEGIN; for writing at once with the lock, waited for in sleeps shorter than the other workers hold it."""
    options = connection.get_execution_options()
    driver: Any = connection.connection.driver_connection
    driver.step_seconds = options.get("step_seconds")
    if not options.get("writing"):
        driver.execute("BEGIN")
        return
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline:
                raise exc.OperationalError("BEGIN IMMEDIATE", None, error) from error
            time.sleep(random.uniform(0.0002, 0.0006))  # noqa: S311
