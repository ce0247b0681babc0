"""A consistent copy of the store in one file, made while it is in use."""

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
    """It is there once it is whole: a database of SQLite, or what `pg_restore` takes. Raises `Exists`,
    `StoreUnavailable`, and `OSError` where the file cannot be written."""
    if file.exists():
        raise Exists(f"{file} is there already; name another file")
    unfinished = file.with_name(f"{file.name}.part")  # one that was killed leaves it, and the next takes it over
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
            os.link(unfinished, file)  # which fails where somebody else made it meanwhile
        finally:
            unfinished.unlink(missing_ok=True)
    _sync(file.parent)


def _copy_sqlite(database: Database, file: Path) -> None:
    """One read transaction long: the store's log of changes grows meanwhile, and nobody waits.

    https://www.sqlite.org/backup.html
    """
    path = Path(database.engine.url.database or "").absolute().as_uri()  # which escapes what means something there
    try:
        with (
            closing(sqlite3.connect(f"{path}?mode=ro", uri=True)) as store,
            closing(sqlite3.connect(file)) as made,
        ):
            store.backup(made)
            made.execute("PRAGMA journal_mode=DELETE")
            made.execute("SELECT id FROM outcomes LIMIT 1")
            [(found,)] = made.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the store cannot be copied: {error}") from error
    if found != "ok":
        raise StoreUnavailable(f"the copy is damaged, so the store may be: {found}")


def _dump_postgresql(database: Database, file: Path) -> None:
    """By PostgreSQL's own tool. https://www.postgresql.org/docs/current/app-pgdump.html"""
    from psycopg.conninfo import make_conninfo  # PostgreSQL's driver, which SQLite does not need
    from psycopg.pq import Conninfo

    program = shutil.which("pg_dump")
    if program is None:
        raise StoreUnavailable("pg_dump is not here; install PostgreSQL's client programs, of the server's version")
    url = database.engine.url
    told = dict(url.translate_connect_args(username="user", database="dbname")) | dict(url.query)
    password = str(told.pop("password", ""))
    keywords = {option.keyword.decode() for option in Conninfo.get_defaults()}  # others are the driver's own
    known: dict[str, Any] = {name: value for name, value in told.items() if name in keywords}
    target = make_conninfo("", **known)
    command = [program, "--format=custom", "--no-owner", "--no-privileges", f"--file={file}"]
    dumped = subprocess.run(
        [*command, f"--dbname={target}", "--no-password"],
        env=os.environ | ({"PGPASSWORD": password} if password else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if dumped.returncode:
        says = dumped.stderr.strip().splitlines() or ["it says nothing"]
        raise StoreUnavailable(f"pg_dump failed: {says[-1]}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
