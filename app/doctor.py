"""Checks of the whole installation. Each says what is wrong and what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from app import assembly
from app.config import Settings, from_environment
from app.errors import PlumError
from app.public_urls import result_url, start_url
from app.store import integrations, schema_version, tokens
from app.store.database import Database, writable

LOW_SPACE_BYTES = 1 << 30
MAX_URL_LENGTH = 255
KEY_LENGTH = 22


@dataclass(frozen=True, slots=True)
class Check:
    part: str
    ok: bool
    says: str


def examine(environment: Mapping[str, str]) -> list[Check]:
    """Check every part; skip those that depend on a broken part."""
    try:
        settings = from_environment(environment)
        database = Database(settings.database_url)
        if settings.read_database_url:
            Database(settings.read_database_url, "PLUM_READ_DATABASE_URL")
    except PlumError as error:
        return [Check("settings", False, str(error))]
    try:
        return [Check("settings", True, "all known"), *_checks(settings, database)]
    finally:
        database.close()


def _checks(settings: Settings, database: Database) -> Iterator[Check]:
    yield _addresses(settings)
    yield _spool(settings.spool_dir)
    yield _analytics(settings, database)
    store = _checked("store", lambda: _store(database))
    yield store
    if not store.ok:
        return
    schema = _checked("schema", lambda: _schema(database))
    yield schema
    if schema.ok:
        yield _integrations(database)
        yield _tokens(database)


def _analytics(settings: Settings, database: Database) -> Check:
    path = settings.analytics_path
    if assembly.remote(settings, database).is_there():
        return Check("analytics", True, f"the analytical copy at {path} is served")
    if not os.access(_nearest(path.parent), os.W_OK):
        return Check("analytics", False, f"{path.parent} cannot be written; set PLUM_ANALYTICS_PATH")
    return Check("analytics", True, f"the analytical copy at {path} is made and served once the service runs")


def _nearest(directory: Path) -> Path:
    return next(path for path in (directory, *directory.absolute().parents) if path.exists())


def _addresses(settings: Settings) -> Check:
    """Plum's DEV limits URLs to 255 characters, in which a reference needs room."""
    if len(result_url(settings, "")) + KEY_LENGTH > MAX_URL_LENGTH:
        return Check("addresses", False, f"Plum takes {MAX_URL_LENGTH} characters of a URL; shorten PLUM_PUBLIC_URL")
    return Check(
        "addresses",
        True,
        f"result_url is {result_url(settings, 'KEY')}, and DEV's start_url {start_url(settings, 'KEY')}",
    )


def _checked(part: str, check: Callable[[], str]) -> Check:
    try:
        return Check(part, True, check())
    except PlumError as error:
        return Check(part, False, error.detail)


def _spool(directory: Path) -> Check:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".doctor-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)
        free = shutil.disk_usage(directory).free
    except OSError as error:
        return Check(
            "spool", False, f"{directory} cannot be written: {error.strerror}; mend it or set PLUM_SPOOL_DIR"
        )
    if free < LOW_SPACE_BYTES:
        return Check("spool", False, f"only {free >> 20} MiB are free at {directory}; make room")
    return Check("spool", True, f"{directory} can be written, {free >> 30} GiB free")


def _store(database: Database) -> str:
    writable(database)
    return f"{database.where} answers"


def _schema(database: Database) -> str:
    schema_version.check(database)
    return "up to date"


def _integrations(database: Database) -> Check:
    active = [one for one in integrations.list_integrations(database) if not one["disabled_at"]]
    if not active:
        return Check("integrations", False, "none is active; run: plum-outcomes integration add NAME")
    return Check("integrations", True, f"{len(active)} active")


def _tokens(database: Database) -> Check:
    active = [one for one in tokens.list_tokens(database) if not one["revoked_at"]]
    if not active:
        return Check("tokens", False, "none is active, so nobody can query; run: plum-outcomes token add NAME")
    return Check("tokens", True, f"{len(active)} active")
