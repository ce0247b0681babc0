"""One engine, opened for what this product needs of it: durable commits, short time-outs, plain errors."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import clear_frames
from typing import Any

from gevent import get_hub, monkey
from sqlalchemy import Connection, Engine, create_engine, event, exc, text
from sqlalchemy.engine import make_url

from app.config import Settings
from app.errors import ConfigError, StoreRefused, StoreUnavailable, TooSlow
from app.store.aside import AskingCursor

CONNECT_SECONDS = 3
LOCK_SECONDS = 2
STATEMENT_SECONDS = 10
_STOPPED = "57014"  # PostgreSQL's code for a statement that took too long
_FORMS = "sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
MIN_FREE_BYTES = 1 << 20
# Fewer, larger checkpoints: each copies the pages that changed and waits for the disk twice.
PAGE_BYTES = 2048  # ids are random, so each new row changes a page of its own in their index: a small one costs less
CHECKPOINT_PAGES = 8000
KEEPALIVES = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}


class Database:
    """The store's engine. All SQL runs within `reading()` or `writing()`, whose errors are the store's own."""

    def __init__(self, url: str, setting: str = "PLUM_DATABASE_URL") -> None:
        """`setting` is where the URL comes from, for the error that names it. Raises `ConfigError`."""
        try:
            self.engine = _engine(url)
        except ConfigError as error:
            raise ConfigError(f"{setting}: {error}") from None
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(
        self, seconds: float = STATEMENT_SECONDS, *, at_one_moment: bool = False, alone: bool = False
    ) -> Iterator[Connection]:
        """A connection for questions, each statement and each batch of rows within `seconds`.

        On SQLite all statements see the store as it was at one moment; on PostgreSQL only where that is asked for.
        `alone` keeps PostgreSQL from starting workers beside it, which a brief look would not live to see, and an
        export is to leave to others. Raises `TooSlow`, `StoreUnavailable` or `StoreRefused`.
        """
        with _own_errors(self.engine), _in_time(seconds), self.engine.connect() as connection:
            connection = connection.execution_options(asking=seconds)
            with connection.begin():
                settings = {
                    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ": at_one_moment,
                    f"SET LOCAL statement_timeout = {int(seconds * 1000)}": seconds != STATEMENT_SECONDS,
                    "SET LOCAL max_parallel_workers_per_gather = 0": alone,
                }
                if not self.is_sqlite and any(settings.values()):
                    connection.exec_driver_sql("; ".join(one for one, wanted in settings.items() if wanted))
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, durable when the block is left. Raises `StoreUnavailable` or `StoreRefused`."""
        with _own_errors(self.engine), self.engine.connect() as connection:
            connection = connection.execution_options(writing=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        """Give up all connections; those in use are closed by their users, new ones are opened when needed."""
        self.engine.dispose()


def questions_database(settings: Settings) -> Database:
    """Where questions go: the replica, if there is one. Raises `ConfigError`."""
    if settings.read_database_url:
        return Database(settings.read_database_url, "PLUM_READ_DATABASE_URL")
    return Database(settings.database_url)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        raise ConfigError(f"this is not a database URL; use {_FORMS}") from None
    if parsed.drivername == "sqlite":
        return _sqlite(url, parsed.database)
    if parsed.drivername == "postgresql+psycopg":
        return _postgresql(url)
    raise ConfigError(f"there is no store for {parsed.drivername}; use {_FORMS}")


def _postgresql(url: str) -> Engine:
    # Compiling a statement takes some hundred milliseconds, which no time limit cuts short.
    settings = {"lock_timeout": f"{LOCK_SECONDS}s", "statement_timeout": f"{STATEMENT_SECONDS}s", "jit": "off"}
    options = " ".join(f"-c {name}={value}" for name, value in (settings | {"timezone": "UTC"}).items())
    return create_engine(
        url,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": STATEMENT_SECONDS * 1000,
            **KEEPALIVES,
            "options": options,
        },
        pool_timeout=CONNECT_SECONDS,
    )


def _sqlite(url: str, file: str | None) -> Engine:
    if not file or file == ":memory:":
        raise ConfigError("SQLite needs a file that outlives the process; use sqlite:///FILE")
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{Path(file).parent} cannot be made: {error.strerror}") from None
    engine = create_engine(url, pool_timeout=CONNECT_SECONDS, connect_args={"factory": _CommitAside})
    event.listen(engine, "connect", _open_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


class _CommitAside(sqlite3.Connection):
    """Under gevent waits for the disk in a thread of its own; else every request of the process would wait too."""

    asking: float | None = None  # the seconds that each step of a question has; None while it writes

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        return super().cursor(AskingCursor if self.asking else factory)

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


def _open_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin in _begin_sqlite
    for pragma in (
        f"page_size={PAGE_BYTES}",
        "busy_timeout=2000",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        "busy_timeout=0",  # SQLite's own way of waiting would stop every greenlet of the process
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """BEGIN; for writing at once with the lock, waited for in sleeps shorter than the other workers hold it."""
    options = connection.get_execution_options()
    driver: Any = connection.connection.driver_connection
    driver.asking = options.get("asking")
    if not options.get("writing"):
        driver.execute("BEGIN")
        return
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline:
                raise exc.OperationalError("BEGIN IMMEDIATE", None, error) from error
            time.sleep(random.uniform(0.0002, 0.0006))  # noqa: S311


# ProgrammingError: a table is missing, which a migration mends; our statements themselves are tested.
# NotSupportedError: of a distributed database, which takes the same statement at other times.
_MAY_PASS = (
    exc.OperationalError,
    exc.InterfaceError,
    exc.InternalError,
    exc.TimeoutError,
    exc.ProgrammingError,
    exc.NotSupportedError,
)


@contextmanager
def _own_errors(engine: Engine) -> Iterator[None]:
    try:
        yield
    except _MAY_PASS as error:
        raise StoreUnavailable(_in_words(engine, error)) from error
    except exc.SQLAlchemyError as error:
        raise StoreRefused(_in_words(engine, error)) from error
    except (OverflowError, UnicodeError) as error:  # SQLite's driver does not wrap these
        raise StoreRefused(f"a value that SQLite does not hold: {type(error).__name__}") from error


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    try:
        yield
    except exc.OperationalError as error:
        stopped = getattr(error.orig, "sqlstate", None) == _STOPPED or str(error.orig) == "interrupted"
        if not stopped:
            raise
        # SQLAlchemy's frames hold the error that holds them, and would keep all that their callers have.
        clear_frames(error.__traceback__)
        raise TooSlow(
            f"this took longer than {seconds:g} s and was stopped; narrow it: less time between since and until, "
            "more filters, fewer fields to count or group by, or count=estimated"
        ) from error


def _in_words(engine: Engine, error: exc.SQLAlchemyError) -> str:
    """One line without values: a statement's parameters are what callers sent."""
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    if "unable to open database file" in cause:
        return (
            f"SQLite cannot open or make {engine.url.database}; make its directory writable or set PLUM_DATABASE_URL"
        )
    where = engine.url.render_as_string(hide_password=True)
    if "no such table" in cause or ("relation" in cause and "does not exist" in cause):
        return f"the store at {where} has no schema; set PLUM_DATABASE_URL, or run: plum-outcomes migrate"
    return f"the store at {where} says: {cause}; see that it runs and that PLUM_DATABASE_URL is right"


def check_space(database: Database) -> None:
    """Raises `StoreUnavailable` where the disk of SQLite's file is full; PostgreSQL looks after its own."""
    if not database.is_sqlite:
        return
    directory = Path(database.engine.url.database or "").parent
    found = os.statvfs(directory)
    if found.f_bavail * found.f_frsize < MIN_FREE_BYTES:
        raise StoreUnavailable(f"{directory} has less than 1 MiB free; make room")


def writable(database: Database) -> None:
    """Raises `StoreUnavailable` where a transaction cannot even be begun; on SQLite that takes lock and space."""
    check_space(database)
    with database.writing() as connection:
        connection.execute(text("SELECT 1"))
