"""The keys that open something, kept beside the spool: so deliveries are taken while the store is away.

Only the keys' hashes are written. Scripts are in a file of their own: a program that knows none still reads the keys.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from app.intake.spool_segments import write_durably
from app.model import Integration, Json, KnownKey, Product, networks

FILE = "keys.json"
SCRIPTS = "scripts.json"
QUIET_SECONDS = 60.0  # between two log lines of the same

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class KnownKeys:
    """Files that are replaced whole, and read again when one changed."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / FILE
        self._scripts = directory / SCRIPTS
        self._keys: dict[str, KnownKey] = {}
        self._read_at: list[int] = []
        self._quiet_until = 0.0

    def read(self) -> Mapping[str, KnownKey]:
        """What opened something when the store was last asked, by the hex of its hash."""
        changed_at = [_changed_at(self._file), _changed_at(self._scripts)]
        if changed_at != self._read_at:
            scripts = _read(self._scripts, _scripts)
            self._keys = _read(self._file, lambda written: _keys(written, scripts))
            self._read_at = changed_at
        return self._keys

    def replace(self, keys: Mapping[str, KnownKey]) -> None:
        """Write them where they changed. A disk that does not take them costs no delivery: the next time will do."""
        if keys == self.read():
            return
        scripts = {one.integration.name: one.integration.script for one in keys.values() if one.integration.script}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            _replace(self._scripts, scripts)
            _replace(self._file, {digest: _written(known) for digest, known in keys.items()})
        except OSError as error:
            if time.monotonic() >= self._quiet_until:
                self._quiet_until = time.monotonic() + QUIET_SECONDS
                log.error("the known keys cannot be kept in %s: %s", self._file, error.strerror)


def _changed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # there is none yet, or none that can be read
        return 0


def _read(file: Path, read: Callable[[dict[str, Json]], dict[str, _T]]) -> dict[str, _T]:
    """Nothing of a file that is not as it was written; the store is asked again."""
    try:
        return read(json.loads(file.read_bytes()))
    except OSError:  # likewise
        return {}
    except (ValueError, AttributeError, TypeError, RecursionError):
        log.error("%s cannot be read; it is written anew", file)
        return {}


def _replace(file: Path, content: dict[str, Json]) -> None:
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    write_durably(fresh, json.dumps(content).encode())
    fresh.rename(file)


def _written(known: KnownKey) -> list[str | None]:
    """What guards the key comes last, where anything does: a program that knows no guards reads the others."""
    mine = known.integration
    expires_at = known.expires_at.isoformat() if known.expires_at else None
    allowed, password = ",".join(map(str, mine.allowed_from)), mine.password_hash
    guards = [allowed, password.hex() if password else None] if allowed or password else []
    return [mine.name, mine.product, expires_at, *guards]


def _keys(written: dict[str, Json], scripts: Mapping[str, str]) -> dict[str, KnownKey]:
    return {digest: _known(known, scripts) for digest, known in written.items()}


def _known(written: list[str | None], scripts: Mapping[str, str]) -> KnownKey:
    name, product, expires_at, allowed, password = [*written, None, None][:5]
    integration = Integration(
        str(name),
        Product(product) if product else None,
        scripts.get(str(name)),
        networks(allowed or ""),
        bytes.fromhex(password) if password else None,
    )
    return KnownKey(integration, datetime.fromisoformat(expires_at) if expires_at else None)


def _scripts(written: dict[str, Json]) -> dict[str, str]:
    return {name: str(script) for name, script in written.items()}
