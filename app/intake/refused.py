"""The newest refused posts that may have been meant for this receiver, so that they can be accepted later.

They are lines that `import` reads, in two files of bounded size beside the spool; when one is full, the other is
started again. Writes are not synced: these files are an aid, without a guarantee.
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
MAX_BODY_BYTES = 64 << 10  # of a post that is kept; results are much smaller
MINUTE_SECONDS = 60.0
OF_ADDRESS, OF_ALL = 256 << 10, 1 << 20  # bytes that one process keeps in a minute, of one address and of all
QUIET_SECONDS = 60.0

log = logging.getLogger(__name__)


class Refused:
    """Appends posts of this process, and reads the posts of all processes."""

    def __init__(self, spool_directory: Path) -> None:
        self._directory = spool_directory / DIRECTORY
        self._minute = -MINUTE_SECONDS
        self._bytes_by_address: Counter[str | None] = Counter()
        self._quiet_until = 0.0

    def has_room(self, address: str | None) -> bool:
        """True if this minute's limits allow one more post of this address: a flood needs an hour to displace other
        senders' posts."""
        if time.monotonic() >= self._minute + MINUTE_SECONDS:
            self._minute = time.monotonic()
            self._bytes_by_address.clear()
        return self._bytes_by_address[address] < OF_ADDRESS and self._bytes_by_address.total() < OF_ALL

    def keep(self, delivery: Delivery, cause: str, key_hash: bytes) -> None:
        """Append the post. A failing disk has no consequence but a log line."""
        line = json.dumps(_entry(delivery, cause, key_hash)).encode() + b"\n"
        self._bytes_by_address[delivery.remote_addr] += len(line)
        try:
            self._append(line)
        except OSError as error:
            if time.monotonic() >= self._quiet_until:
                self._quiet_until = time.monotonic() + QUIET_SECONDS
                log.error("refused posts cannot be kept in %s: %s", self._directory, error.strerror)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the posts that are kept, the oldest first. Raises `OSError`."""
        for file in (self._older, self._newer):
            if file.exists():
                for line in file.read_bytes().splitlines():
                    try:
                        yield json.loads(line)
                    except ValueError:
                        log.warning("an incomplete line of %s is skipped", file)

    def remove(self, is_meant: Callable[[dict[str, Any]], bool]) -> int:
        """Remove the entries for which `is_meant` is true; return their number. Raises `OSError`."""
        if not self._directory.is_dir():
            return 0
        with self._newer.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # a process that wants to append meanwhile loses its post
            entries = list(self.entries())
            remaining = [entry for entry in entries if not is_meant(entry)]
            if len(remaining) < len(entries):
                new_file = self._directory / "fresh.ndjson"
                write_durably(new_file, b"".join(json.dumps(entry).encode() + b"\n" for entry in remaining))
                new_file.rename(self._newer)
                self._older.unlink(missing_ok=True)
        return len(entries) - len(remaining)

    @property
    def _newer(self) -> Path:
        return self._directory / "newer.ndjson"

    @property
    def _older(self) -> Path:
        return self._directory / "older.ndjson"

    def _append(self, line: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._newer.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # do not wait for the lock: its holder may be frozen
            if os.path.samestat(os.fstat(file.fileno()), self._newer.stat()):  # the file was not replaced meanwhile
                if file.tell() + len(line) <= FILE_BYTES:
                    file.write(line)
                    return
                self._newer.rename(self._older)
        self._append(line)


def _entry(delivery: Delivery, cause: str, key_hash: bytes) -> dict[str, Any]:
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
