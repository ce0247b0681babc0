"""The keys that open something, kept beside the spool: so deliveries are taken while the store is away.

Only the keys' hashes are written.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from app.intake.segments import write_durably
from app.model import Integration, KnownKey, Product

FILE = "keys.json"
QUIET_SECONDS = 60.0  # between two log lines of the same

log = logging.getLogger(__name__)


class KnownKeys:
    """A file that is replaced whole, and read again when it changed."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / FILE
        self._keys: dict[str, KnownKey] = {}
        self._read_at: int | None = None
        self._quiet_until = 0.0

    def read(self) -> Mapping[str, KnownKey]:
        """What opened something when the store was last asked, by the hex of its hash."""
        try:
            changed_at = self._file.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._keys = _read_all(self._file.read_bytes())
                self._read_at = changed_at
        except OSError:  # there is none yet, or none that can be read
            return {}
        return self._keys

    def replace(self, keys: Mapping[str, KnownKey]) -> None:
        """Write them where they changed. A disk that does not take them costs no delivery: the next time will do."""
        if keys == self.read():
            return
        fresh = self._file.with_name(f"{FILE}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_durably(fresh, json.dumps({digest: _written(known) for digest, known in keys.items()}).encode())
            fresh.rename(self._file)
        except OSError as error:
            if time.monotonic() >= self._quiet_until:
                self._quiet_until = time.monotonic() + QUIET_SECONDS
                log.error("the known keys cannot be kept in %s: %s", self._file, error.strerror)


def _written(known: KnownKey) -> list[str | None]:
    expires_at = known.expires_at.isoformat() if known.expires_at else None
    return [known.integration.name, known.integration.product, expires_at]


def _read_all(content: bytes) -> dict[str, KnownKey]:
    """None of a file that is not as it was written; the store is asked again."""
    try:
        return {digest: _read(known) for digest, known in json.loads(content).items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        log.error("the file of known keys cannot be read; it is written anew")
        return {}


def _read(written: list[str | None]) -> KnownKey:
    name, product, expires_at = written
    integration = Integration(str(name), Product(product) if product else None)
    return KnownKey(integration, datetime.fromisoformat(expires_at) if expires_at else None)
