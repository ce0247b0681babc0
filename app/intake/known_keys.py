"""The valid keys, cached in a file beside the spool, so that deliveries are accepted while the store is away.

The file has the keys' hashes only. Scripts have their own file: a release that knows no scripts can still read the
keys.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from app.cooperative import Threads, aside
from app.intake.spool_segments import write_durably
from app.model import Integration, Json, KnownKey, Product, networks

FILE = "keys.json"
SCRIPTS = "scripts.json"
QUIET_SECONDS = 60.0  # between two log lines of the same kind

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class KnownKeys:
    """The two files; they are replaced as a whole, and read again when one has changed."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / FILE
        self._scripts = directory / SCRIPTS
        self._keys: dict[str, KnownKey] = {}
        self._texts: dict[str, str] = {}  # the scripts, by their integrations
        self._read_at: list[int] = []
        self._quiet_until = 0.0
        self._disk = Threads(1)

    def read(self) -> Mapping[str, KnownKey]:
        """Return the keys that were valid when the store was last read, by the hex of their hash."""
        changed_at = [_changed_at(self._file), _changed_at(self._scripts)]
        if changed_at != self._read_at:
            # A file that cannot be opened, perhaps for a moment, takes nothing away, and the next call reads again.
            failed = False
            try:
                self._texts = _read(self._scripts, _scripts)
            except OSError:
                failed = True
            try:
                self._keys = _read(self._file, lambda written: _keys(written, self._texts))
            except OSError:
                failed = True
            self._read_at = [] if failed else changed_at
        return self._keys

    def replace(self, keys: Mapping[str, KnownKey]) -> None:
        """Write the keys if they have changed. A failing disk costs no delivery: the next call tries again."""
        if keys == self.read():
            return
        try:
            aside(self._write, keys, threads=self._disk)
        except OSError as error:
            if time.monotonic() >= self._quiet_until:
                self._quiet_until = time.monotonic() + QUIET_SECONDS
                log.error("the known keys cannot be kept in %s: %s", self._file, error.strerror)

    def _write(self, keys: Mapping[str, KnownKey]) -> None:
        scripts = {
            known.integration.name: known.integration.script for known in keys.values() if known.integration.script
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        _replace(self._scripts, scripts)
        _replace(self._file, {digest: _serialised(known) for digest, known in keys.items()})


def _changed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # the file does not exist or cannot be read
        return 0


def _read(file: Path, parse: Callable[[dict[str, Json]], dict[str, _T]]) -> dict[str, _T]:
    """Parse a file; return nothing if it is missing or damaged, since the store is then asked again. Raises
    `OSError`."""
    try:
        return parse(json.loads(file.read_bytes()))
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError, RecursionError):
        log.error("%s cannot be read; it will be written again", file)
        return {}


def _replace(file: Path, content: dict[str, Json]) -> None:
    new_file = file.with_name(f"{file.name}.{uuid4().hex}")  # a process of another container may have the same number
    try:
        write_durably(new_file, json.dumps(content).encode())
        new_file.rename(file)
    except OSError:
        with suppress(OSError):
            new_file.unlink(missing_ok=True)
        raise


def _serialised(known: KnownKey) -> list[str | None]:
    """Serialise a key. Its networks and password come last, if it has any, so that a release that does not know them
    can read the other keys."""
    integration = known.integration
    expires_at = known.expires_at.isoformat() if known.expires_at else None
    allowed, password = ",".join(map(str, integration.allowed_from)), integration.password_hash
    guards = [allowed, password.hex() if password else None] if allowed or password else []
    return [integration.name, integration.product, expires_at, *guards]


def _keys(content: dict[str, Json], scripts: Mapping[str, str]) -> dict[str, KnownKey]:
    return {digest: _known(known, scripts) for digest, known in content.items()}


def _known(values: list[str | None], scripts: Mapping[str, str]) -> KnownKey:
    name, product, expires_at, allowed, password = [*values, None, None][:5]
    integration = Integration(
        str(name),
        Product(product) if product else None,
        scripts.get(str(name)),
        networks(allowed or ""),
        bytes.fromhex(password) if password else None,
    )
    return KnownKey(integration, datetime.fromisoformat(expires_at) if expires_at else None)


def _scripts(content: dict[str, Json]) -> dict[str, str]:
    return {name: str(script) for name, script in content.items()}
