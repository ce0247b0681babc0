"""The copy's file: its tables, and the transactions that write rows together with the position in the journal.

The file is a cache: if it is damaged or of another version, it is created again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
from sqlalchemy import Boolean, Integer, Uuid

from app.analytics.failures import first_line, in_words
from app.analytics.position import Position, read, written
from app.analytics.sql import csv_source, literal
from app.errors import ConfigError, StoreUnavailable
from app.exports.columns import Mask
from app.store.csv_rows import COLUMNS, NULL, QUOTE, CsvRow
from app.store.types import UtcDateTime

VERSION = 2  # of the tables and their contents
LEAST_FREE_BYTES = 100 << 20  # reserved for deliveries
QUESTION_SECONDS = 10.0

_TYPES = {Uuid: "UUID", Integer: "BIGINT", Boolean: "BOOLEAN", UtcDateTime: "TIMESTAMP"}
# Each of these columns has a second one with its masked text, which is null if the original is empty.
MASKED = ("extra", "problems", "metadata")

log = logging.getLogger(__name__)


class Locked(StoreUnavailable):
    """Raised if another process has locked the copy."""


class Copy:
    """The open file; a lock keeps other processes out."""

    def __init__(self, path: Path, memory: str, masks: Mapping[str, Mask]) -> None:
        """Open the file. Raises `Locked`, and `ConfigError` for an unusable path or amount of memory."""
        self._path = path
        self._masks = {name: masks[name] for name in MASKED}
        self._load_from = path.with_name(f"{path.name}.load")
        self._lock = _lock_file(path)
        self._memory = memory
        self.position: Position | None = None
        self._connection = self._open()
        self._inode = path.stat().st_ino

    def is_there(self) -> bool:
        """True if the path still leads to the file that was opened."""
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    def write(self, rows: Sequence[CsvRow], replaced: Collection[UUID], position: Position) -> None:
        """Replace the rows with the ids in `replaced` by `rows`, and store the new position, in one transaction."""
        self._check_space()
        longest = self._write_load(rows) if rows else 0
        with self._transaction(position) as cursor:
            if replaced:
                delete = "DELETE FROM outcomes WHERE id IN (SELECT unnest($1::UUID[]))"
                cursor.execute(delete, [[str(key) for key in replaced]])
            if rows:
                source = csv_source(str(self._load_from), _COLUMNS, 2 * longest, QUOTE, NULL)
                cursor.execute(f"INSERT INTO outcomes SELECT * FROM {source}")  # noqa: S608
                self._load_from.unlink()

    def clear(self, position: Position) -> None:
        """Remove all rows, and store the position."""
        with self._transaction(position) as cursor:
            cursor.execute(f"CREATE OR REPLACE TABLE outcomes ({_DEFINITION})")

    def count(self) -> int:
        """Count all rows."""
        with self.reading() as cursor:
            return int(cursor.execute("SELECT count(*) FROM outcomes").fetchall()[0][0])

    @contextmanager
    def _transaction(self, position: Position) -> Iterator[duckdb.DuckDBPyConnection]:
        with in_words(), _cursor(self._connection) as cursor:
            cursor.execute("BEGIN")
            yield cursor  # closing the cursor rolls back an uncommitted transaction
            cursor.execute("UPDATE state SET content = $1", [written(position)])
            cursor.execute("COMMIT")
        self.position = position

    def _check_space(self) -> None:
        free = shutil.disk_usage(self._path.parent).free
        if free < LEAST_FREE_BYTES:
            reason = "less than 100 MiB are free on the disk of the analytical copy; make room"
            raise StoreUnavailable(reason, f"{self._path}: {reason}")

    @contextmanager
    def reading(self, seconds: float = QUESTION_SECONDS) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection that sees a snapshot of the copy. It is interrupted after `seconds`, or if another
        thread calls its `interrupt()`. Raises `TooSlow`, `MustReopen`."""
        with in_words(seconds), _cursor(self._connection) as cursor:
            timer = threading.Timer(seconds, cursor.interrupt)
            timer.daemon = True
            timer.start()
            try:
                cursor.execute("BEGIN")
                yield cursor
                cursor.execute("COMMIT")
            finally:
                timer.cancel()

    def remove(self) -> None:
        """Delete the file, so that the next process to open it creates it again."""
        for file in (self._path, self._path.with_name(f"{self._path.name}.wal")):
            file.unlink(missing_ok=True)

    def close(self) -> None:
        with suppress(duckdb.Error):
            self._connection.close()
        os.close(self._lock)

    def _write_load(self, rows: Sequence[CsvRow]) -> int:
        """Write the rows as CSV; return the bytes of the longest line."""
        longest = 0
        with self._load_from.open("wb") as file:
            for row in rows:
                masked = [mask(getattr(row, name)) for name, mask in self._masks.items()]
                cells = [NULL if text is None else literal(text) for text in masked]
                line = f"{row.text},{','.join(cells)}\n".encode()
                longest = max(longest, len(line))
                file.write(line)
        return longest

    def _open(self) -> duckdb.DuckDBPyConnection:
        self._load_from.unlink(missing_ok=True)
        return self._open_existing() or self._create()

    def _open_existing(self) -> duckdb.DuckDBPyConnection | None:
        """Open the existing file; return None if it is missing, unreadable or of another version."""
        if not self._path.exists():
            return None
        connection = None
        try:
            connection = self._connect()
            if _version(connection) == VERSION:
                self.position = _read_position(connection)
                return connection
        except duckdb.Error as error:
            log.warning("the analytical copy cannot be read, so it is made again: %s", first_line(error))
        if connection:
            connection.close()
        return None

    def _create(self) -> duckdb.DuckDBPyConnection:
        self.remove()
        connection = self._connect()
        connection.execute(f"CREATE TABLE outcomes ({_DEFINITION})")
        connection.execute("CREATE TABLE state (version INTEGER, content VARCHAR)")
        connection.execute("INSERT INTO state VALUES ($1, NULL)", [VERSION])
        return connection

    def _connect(self) -> duckdb.DuckDBPyConnection:
        try:
            connection = duckdb.connect(
                self._path,
                config={
                    "memory_limit": self._memory,
                    "threads": os.cpu_count() or 1,
                    "temp_directory": str(self._path.with_name(f"{self._path.name}.spill")),
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                },
            )
        except duckdb.ParserException as error:
            raise ConfigError(f"PLUM_ANALYTICS_MEMORY should be an amount like 1GB, not {self._memory}") from error
        for setting in (
            f"allowed_paths = [{literal(str(self._load_from))}]",
            "allowed_directories = ['/dev/fd']",  # the pipes into which exports are written
            "enable_external_access = false",
            "TimeZone = 'UTC'",
            "lock_configuration = true",
        ):
            connection.execute(f"SET {setting}")
        return connection


def _type(column: Any) -> str:
    return next((name for type_, name in _TYPES.items() if isinstance(column.type, type_)), "VARCHAR")


_COLUMNS = {column.name: _type(column) for column in COLUMNS} | {f"{name}_masked": "VARCHAR" for name in MASKED}
_DEFINITION = ", ".join(f"{name} {type_}" for name, type_ in _COLUMNS.items())


def _lock_file(path: Path) -> int:
    """Lock the copy; return the descriptor, which holds the lock until it is closed or the process ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"PLUM_ANALYTICS_PATH: {path} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Locked("the analytical copy is in use by another process", f"another process has {path}") from None
    return lock


@contextmanager
def _cursor(connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    cursor = connection.cursor()
    try:
        yield cursor
    finally:
        cursor.close()


def _version(connection: duckdb.DuckDBPyConnection) -> int | None:
    """Return the version of the tables; None for a new file."""
    if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'state'").fetchone():
        return None
    row = connection.execute("SELECT version FROM state").fetchone()
    return row[0] if row else None


def _read_position(connection: duckdb.DuckDBPyConnection) -> Position | None:
    """Return the position in the journal; None before the first fill."""
    row = connection.execute("SELECT content FROM state").fetchone()
    return read(row[0]) if row and row[0] else None
