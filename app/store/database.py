"""The database engine, configured for this product: durable commits, short timeouts, its own errors."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, event, exc, text
from sqlalchemy.engine import make_url

from app.config import Settings
from app.errors import DISK_FULL, ConfigError, StoreUnavailable
from app.store import sqlite
from app.store.failures import in_time, own_errors, where
from app.store.timeouts import LOCK_SECONDS, STATEMENT_SECONDS

CONNECTIONS = 8
MIN_FREE_BYTES = 1 << 20
EMPTYING_SECONDS = 5.0

_FORMS = "sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
_SQLITE, _POSTGRESQL = "sqlite", "postgresql+psycopg"

Begin = Callable[..., None]  # applies the settings at the start of a transaction


class Database:
    """The store's engine. All SQL runs within `reading()` or `writing()`, which translate errors to the store's
    own."""

    def __init__(
        self,
        url: str,
        setting: str = "PLUM_DATABASE_URL",
        connections: int = CONNECTIONS,
        lock_seconds: float = LOCK_SECONDS,
    ) -> None:
        """Create the engine; `setting` names the URL's setting in errors. One process opens at most `connections`
        connections, and further users wait. On SQLite a transaction waits for the write lock for `lock_seconds`; on
        PostgreSQL, where it may hold locks of callbacks meanwhile, never for longer than `LOCK_SECONDS`. Raises
        `ConfigError`."""
        try:
            self.engine, self._begin = _engine(url, connections, lock_seconds)
        except ConfigError as error:
            raise ConfigError(f"{setting}: {error}") from None
        self.connections = connections
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    @property
    def where(self) -> str:
        """The address for the log and the command line, without password."""
        return where(self.engine.url)

    @property
    def address(self) -> str:
        """The address without secrets, the same for each way to write it."""
        return str(Path(self.engine.url.database or "").resolve()) if self.is_sqlite else self.where

    @contextmanager
    def reading(self, seconds: float = STATEMENT_SECONDS, *, alone: bool = False) -> Iterator[Connection]:
        """Yield a connection for queries; each statement and each batch of rows may take `seconds`.

        `alone` disables PostgreSQL's parallel workers, which an export should leave to others. Raises `TooSlow`,
        `StoreUnavailable` or `StoreRefused`.
        """
        with own_errors(self.engine.url), in_time(seconds), self.engine.connect() as connection:
            connection = connection.execution_options(step_seconds=seconds)
            with connection.begin():
                if self._begin:
                    settings = ["SET LOCAL max_parallel_workers_per_gather = 0"] if alone else []
                    self._begin(connection, seconds, *settings)
                yield connection

    @contextmanager
    def writing(self, seconds: float = STATEMENT_SECONDS) -> Iterator[Connection]:
        """Run one transaction, which is durable when the block ends. Raises `StoreUnavailable` or `StoreRefused`."""
        with own_errors(self.engine.url), self.engine.connect() as connection:
            connection = connection.execution_options(writing=True)
            with connection.begin():
                if self._begin:
                    self._begin(connection, seconds)
                yield connection

    def watch(self, taken: Callable[[], None], returned: Callable[[], None]) -> None:
        """Call `taken` when a connection is checked out, and `returned` when it is returned."""
        event.listen(self.engine, "checkout", lambda *_: taken())
        event.listen(self.engine, "checkin", lambda *_: returned())

    def close(self) -> None:
        """Close all idle connections; those in use are closed when they are returned. New ones are opened when
        needed."""
        self.engine.dispose()


def questions_database(settings: Settings, connections: int = CONNECTIONS) -> Database:
    """Return the database for queries: the replica, if there is one. Raises `ConfigError`."""
    if settings.read_database_url:
        return Database(settings.read_database_url, "PLUM_READ_DATABASE_URL", connections)
    return Database(settings.database_url, connections=connections)


def _engine(url: str, connections: int, lock_seconds: float) -> tuple[Engine, Begin | None]:
    """Create the engine. Errors do not quote the URL, since the mistake may be in its password."""
    before, at, _ = url.rpartition("@")
    if not url.startswith("sqlite:") and at and ("@" in before or re.search(r"\?\w+=", before)):
        raise ConfigError("@ : / ? # and % within the password have to be escaped, @ as %40")
    try:
        parsed = make_url(url)
        if parsed.drivername == _SQLITE:
            return sqlite.engine(parsed, connections, lock_seconds), None
        if parsed.drivername == _POSTGRESQL:
            from app.store import postgresql  # imports its driver, which SQLite does not need

            return postgresql.engine(parsed, connections), postgresql.begin
    except (exc.ArgumentError, ValueError, TypeError):
        raise ConfigError(f"this is not a database URL; use {_FORMS}") from None
    raise ConfigError(f"there is no store for this; use {_FORMS}")


def wal_bytes(database: Database) -> int:
    """Return the size of SQLite's WAL; 0 on PostgreSQL, which manages its own."""
    return sqlite.wal_bytes(database.engine.url.database or "") if database.is_sqlite else 0


def truncate_wal(database: Database, above: int = sqlite.MAX_WAL_BYTES) -> bool:
    """Truncate SQLite's WAL if it is larger than `above`, so that it does not fill the disk. True if that succeeded
    or was unnecessary."""
    return not database.is_sqlite or sqlite.truncate_wal(database.engine.url.database or "", above)


def empty_wal(database: Database) -> bool:
    """Truncate SQLite's WAL as soon as nobody uses it; False if somebody did for `EMPTYING_SECONDS`."""
    ends = time.monotonic() + EMPTYING_SECONDS
    while not truncate_wal(database, above=0):
        if time.monotonic() > ends:
            return False
        time.sleep(EMPTYING_SECONDS / 50)
    return True


def release_space(database: Database) -> None:
    """Return some space of deleted rows to the file system; PostgreSQL reuses its own."""
    if database.is_sqlite:
        sqlite.release_space(database.engine.url.database or "")


def free_bytes(database: Database) -> int | None:
    """Return the free bytes on the disk of SQLite's file; None on PostgreSQL."""
    if not database.is_sqlite:
        return None
    status = os.statvfs(Path(database.engine.url.database or "").parent)
    return status.f_bavail * status.f_frsize


def check_space(database: Database) -> None:
    """Raises `StoreUnavailable` if the disk of SQLite's file is full."""
    if (free := free_bytes(database)) is not None and free < MIN_FREE_BYTES:
        directory = Path(database.engine.url.database or "").parent
        raise StoreUnavailable(DISK_FULL, f"{directory}: {DISK_FULL}")


def writable(database: Database) -> None:
    """Raises `StoreUnavailable` if no transaction can begin; on SQLite that needs the lock and free space."""
    check_space(database)
    with database.writing() as connection:
        connection.execute(text("SELECT 1"))
