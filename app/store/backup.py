"""Writes a consistent copy of the store to one file while the store is in use."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from app.errors import Exists, StoreUnavailable
from app.store.database import Database


def backup(database: Database, file: Path) -> None:
    """Write the backup; the file appears when it is complete. It is an SQLite database, or input for `pg_restore`.

    Raises `Exists`, `StoreUnavailable`, and `OSError` if the file cannot be written.
    """
    if file.exists():
        raise Exists(f"{file} is there already; name another file")
    unfinished = file.with_name(f"{file.name}.part")  # a killed backup leaves this file; the next backup reuses it
    unfinished.touch(mode=0o600)
    with unfinished.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Exists(f"another backup is being written to {file}") from None
        try:
            os.truncate(unfinished, 0)
            (_copy_sqlite if database.is_sqlite else _dump_postgresql)(database, unfinished)
            _sync(unfinished)
            os.link(unfinished, file)  # fails if the file was created meanwhile
        finally:
            unfinished.unlink(missing_ok=True)
    _sync(file.parent)


def _copy_sqlite(database: Database, file: Path) -> None:
    """Copy the database in one read transaction: the WAL grows meanwhile, and no other connection waits."""
    path = Path(database.engine.url.database or "").absolute().as_uri()  # escapes characters with a meaning in URIs
    try:
        with (
            closing(sqlite3.connect(f"{path}?mode=ro", uri=True)) as store,
            closing(sqlite3.connect(file)) as copy,
        ):
            store.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            copy.execute("SELECT id FROM outcomes LIMIT 1")
            [(result,)] = copy.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the store cannot be copied: {error}") from error
    if result != "ok":
        raise StoreUnavailable(f"the copy is damaged, so the store may be: {result}")


def _dump_postgresql(database: Database, file: Path) -> None:
    """Run PostgreSQL's own tool. https://www.postgresql.org/docs/current/app-pgdump.html"""
    from psycopg.conninfo import make_conninfo  # imported here, since stores on SQLite do not need this driver
    from psycopg.pq import Conninfo

    program = shutil.which("pg_dump")
    if program is None:
        raise StoreUnavailable("pg_dump is not here; install PostgreSQL's client programs, of the server's version")
    url = database.engine.url
    parameters = dict(url.translate_connect_args(username="user", database="dbname")) | dict(url.query)
    password = str(parameters.pop("password", ""))
    libpq_keywords = {option.keyword.decode() for option in Conninfo.get_defaults()}  # others are for the driver
    libpq_parameters: dict[str, Any] = {name: value for name, value in parameters.items() if name in libpq_keywords}
    target = make_conninfo("", **libpq_parameters)
    command = [program, "--format=custom", "--no-owner", "--no-privileges", f"--file={file}"]
    process = subprocess.run(
        [*command, f"--dbname={target}", "--no-password"],
        env=os.environ | ({"PGPASSWORD": password} if password else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        messages = process.stderr.strip().splitlines() or ["it says nothing"]
        raise StoreUnavailable(f"pg_dump failed: {messages[-1]}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
