"""SQLite with the settings of this product: durable, few large commits, and no wait that blocks other requests."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc

from app.cooperative import Threads, aside
from app.errors import ConfigError
from app.store.timeouts import LOCK_SECONDS

POOL_SECONDS = 3
# Few large checkpoints: each copies the changed pages and waits for the disk twice.
PAGE_BYTES = 2048  # ids are random, so each new row changes another page of their index: small pages cost less
CHECKPOINT_PAGES = 8000
MAX_WAL_BYTES = 64 << 20
RELEASED_PAGES = 400  # pages at a time
CHECK_EVERY = 20_000  # SQLite operations between two checks of the time limit, about a millisecond

_COMMITS = Threads(10)


def engine(url: URL, connections: int, lock_seconds: float) -> Engine:
    """Create the engine; its transactions wait for the write lock for `lock_seconds`. Raises `ConfigError`."""
    file = url.database
    if not file or file == ":memory:":
        raise ConfigError("SQLite needs a file that outlives the process; use sqlite:///FILE")
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{Path(file).parent} cannot be made: {error.strerror}") from None
    new_engine = create_engine(
        url,
        connect_args={"factory": _Connection},
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        hide_parameters=True,
    )
    threads = Threads(connections)
    event.listen(new_engine, "connect", lambda connection, _record: _open(connection, threads))
    event.listen(new_engine, "begin", lambda connection: _begin(connection, lock_seconds))
    return new_engine


def wal_bytes(file: str) -> int:
    try:
        return Path(f"{file}-wal").stat().st_size
    except OSError:  # there is none
        return 0


def truncate_wal(file: str, above: int) -> bool:
    """Checkpoint and truncate the WAL if it is larger than `above`; True if it is not larger afterwards.

    The first checkpoint needs no lock. The second does not wait: while others use the WAL, it fails and is left for
    later.
    """
    if wal_bytes(file) <= above:
        return True
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file, timeout=0)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        [(is_busy, *_)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return not is_busy
    return False


def release_space(file: str) -> None:
    """Return some free pages to the file system; do nothing while another process writes.

    Files of releases before `auto_vacuum` reuse their free pages until they are vacuumed.
    """
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file, timeout=LOCK_SECONDS)) as connection:
        # As a script: with a plain statement Python's module would free only one page.
        connection.executescript(f"PRAGMA incremental_vacuum({RELEASED_PAGES})")


class _Cursor(sqlite3.Cursor):
    """A query's cursor. A step that takes longer than the connection's `step_seconds` is interrupted."""

    def execute(self, *args: Any) -> Any:
        return self._step(super().execute, *args)

    def fetchone(self) -> Any:
        return self._step(super().fetchone)

    def fetchmany(self, *args: Any) -> Any:
        return self._step(super().fetchmany, *args)

    def fetchall(self) -> Any:
        return self._step(super().fetchall)

    def _step(self, act: Callable[..., Any], *args: Any) -> Any:
        deadline = time.monotonic() + self.connection.step_seconds  # type: ignore[attr-defined]
        self.connection.set_progress_handler(lambda: time.monotonic() > deadline, CHECK_EVERY)
        try:
            return aside(act, *args, threads=self.connection.threads)  # type: ignore[attr-defined]
        finally:
            self.connection.set_progress_handler(None, 0)


class _Connection(sqlite3.Connection):
    """A connection whose commits and queries run in threads under gevent.

    SQLite works in the calling thread; otherwise every request of the process would wait for it. Queries have threads
    of their own for each database, so that none delays a delivery or the check of a key.
    """

    step_seconds: float | None = None  # time limit for each step of a query; None in write transactions
    threads: Threads  # the threads in which queries run

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        return super().cursor(_Cursor if self.step_seconds else factory)

    def commit(self) -> None:
        aside(super().commit, threads=_COMMITS)


def _open(connection: _Connection, threads: Threads) -> None:
    connection.threads = threads
    connection.isolation_level = None  # `_begin` begins transactions
    connection.execute("PRAGMA busy_timeout=2000")
    if connection.execute("PRAGMA page_count").fetchone() == (0,):
        # For a new file only: setting auto_vacuum writes, so it would wait for whoever holds the write lock.
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # allows returning the space of deleted rows
    for pragma in (
        "secure_delete=ON",  # deleted rows contain phone numbers
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        f"journal_size_limit={MAX_WAL_BYTES}",
        "busy_timeout=0",  # SQLite's own wait would block every greenlet of the process
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection, lock_seconds: float) -> None:
    """Begin a transaction. A write transaction takes the lock at once; it retries after sleeps that are shorter than
    other workers hold the lock."""
    options = connection.get_execution_options()
    driver: Any = connection.connection.driver_connection
    driver.step_seconds = options.get("step_seconds")
    if not options.get("writing"):
        driver.execute("BEGIN")
        return
    deadline = time.monotonic() + lock_seconds
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline:
                raise exc.OperationalError("BEGIN IMMEDIATE", None, error) from error
            time.sleep(random.uniform(0.0002, 0.0006))  # noqa: S311
