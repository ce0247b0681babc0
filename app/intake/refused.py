"""The newest posts that were refused and may have been meant for us, so that they can be taken after all.

They lie in two files of bounded size beside the spool, as lines that `import` reads; once one is full the other is
begun anew. Nothing waits for them to be durable: they are a help, and no promise.
"""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.intake.spool_segments import write_durably
from app.model import Delivery

DIRECTORY = "refused"
FILE_BYTES = 8 << 20
MAX_BODY_BYTES = 64 << 10  # of one that is kept; results are much smaller
MINUTE_SECONDS = 60.0
OF_ADDRESS, OF_ALL = 256 << 10, 1 << 20  # bytes that one process keeps in a minute
QUIET_SECONDS = 60.0

log = logging.getLogger(__name__)


class Refused:
    """What one process adds, and what all have kept."""

    def __init__(self, spool_directory: Path) -> None:
        self._directory = spool_directory / DIRECTORY
        self._minute = -MINUTE_SECONDS
        self._of: Counter[str | None] = Counter()
        self._quiet_until = 0.0

    def has_room(self, address: str | None) -> bool:
        """Whether one more of this address is kept in this minute: one takes an hour to push out what others sent."""
        if time.monotonic() >= self._minute + MINUTE_SECONDS:
            self._minute = time.monotonic()
            self._of.clear()
        return self._of[address] < OF_ADDRESS and self._of.total() < OF_ALL

    def keep(self, delivery: Delivery, cause: str, key_hash: bytes) -> None:
        """A disk that does not take it costs nothing."""
        line = json.dumps(_written(delivery, cause, key_hash)).encode() + b"\n"
        self._of[delivery.remote_addr] += len(line)
        try:
            self._append(line)
        except OSError as error:
            if time.monotonic() >= self._quiet_until:
                self._quiet_until = time.monotonic() + QUIET_SECONDS
                log.error("refused posts cannot be kept in %s: %s", self._directory, error.strerror)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Those that are kept, the oldest first. Raises `OSError`."""
        for file in (self._older, self._newer):
            if file.exists():
                for line in file.read_bytes().splitlines():
                    try:
                        yield json.loads(line)
                    except ValueError:
                        log.warning("a line of %s is torn and passed over", file)

    def remove(self, is_meant: Callable[[dict[str, Any]], bool]) -> int:
        """Forget those that are meant; how many. Raises `OSError`."""
        if not self._directory.is_dir():
            return 0
        with self._newer.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # whoever would add one meanwhile goes without
            kept = list(self.entries())
            left = [entry for entry in kept if not is_meant(entry)]
            if len(left) < len(kept):
                fresh = self._directory / "fresh.ndjson"
                write_durably(fresh, b"".join(json.dumps(entry).encode() + b"\n" for entry in left))
                fresh.rename(self._newer)
                self._older.unlink(missing_ok=True)
        return len(kept) - len(left)

    @property
    def _newer(self) -> Path:
        return self._directory / "newer.ndjson"

    @property
    def _older(self) -> Path:
        return self._directory / "older.ndjson"

    def _append(self, line: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._newer.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whoever has it may be frozen, so nobody waits
            if os.path.samestat(os.fstat(file.fileno()), self._newer.stat()):  # not replaced meanwhile
                if file.tell() + len(line) <= FILE_BYTES:
                    file.write(line)
                    return
                self._newer.rename(self._older)
        self._append(line)


def _written(delivery: Delivery, cause: str, key_hash: bytes) -> dict[str, Any]:
    return {
        "id": str(delivery.id),
        "received_at": delivery.received_at.isoformat(),
        "cause": cause,
        "integration": delivery.integration or None,
        "key_sha256": key_hash.hex(),
        "verdict": "started" if delivery.started else None,
        "reference": delivery.reference,
        "batch": delivery.batch,
        "content_type": delivery.content_type,
        "headers": delivery.headers,
        "query": delivery.query,
        "remote_addr": delivery.remote_addr,
        "body_base64": base64.b64encode(delivery.body).decode(),
    }
