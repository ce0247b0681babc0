"""Where deliveries wait while the store is away: one fsynced file a group.

A record is a header (lengths and CRC-32 of what follows), the delivery's envelope as JSON, and the body's bytes. A
file gets its name only once it is whole on the disk, so a torn one is of a group that was never acknowledged; what of
it can be read is used all the same. A file's name ends with how many records it holds.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import re
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from app.errors import StoreUnavailable
from app.model import Delivery, Product, Via

SUFFIX = ".spool"
UNFINISHED = ".unfinished"
ASIDE = "aside"
# A file that its writer did not finish in this time never will be.
ABANDONED_SECONDS = 60
MIN_FREE_BYTES = 1 << 20

_NAME = re.compile(r"(?P<at>\d{20})-\d+-\d+-(?P<count>\d{1,9})\.")
_HEADER = struct.Struct(">4sIII")
_MAGIC = b"PLM1"
_numbers = itertools.count()

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the spool."""

    deliveries: int
    size_bytes: int
    oldest_seconds: float
    aside: int  # files that the store refused or that could not be read


class Spool:
    """A directory of files, oldest first by name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def append(self, deliveries: Sequence[Delivery]) -> None:
        """Returns once they survive a power cut. Raises `StoreUnavailable` where the disk does not take them."""
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}-{len(deliveries)}"
        unfinished = self.directory / f"{name}{UNFINISHED}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if _free(self.directory) < MIN_FREE_BYTES:
                raise StoreUnavailable(f"neither store nor spool can take a delivery: {self.directory} is full")
            write_durably(unfinished, b"".join(map(_packed, deliveries)))
            unfinished.rename(self.directory / f"{name}{SUFFIX}")
            _sync_directory(self.directory)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise StoreUnavailable(
                f"neither store nor spool can take a delivery: {self.directory}: {error.strerror}"
            ) from error

    def files(self) -> list[Path]:
        """What is to be drained, oldest first."""
        abandoned = time.time() - ABANDONED_SECONDS
        unfinished = [path for path in self.directory.glob(f"*{UNFINISHED}") if _changed_at(path) < abandoned]
        return sorted([*self.directory.glob(f"*{SUFFIX}"), *unfinished])

    def read(self, file: Path) -> tuple[list[Delivery], bool]:
        """The file's deliveries, and whether it was whole."""
        found: list[Delivery] = []
        try:
            for delivery in _unpacked(file.read_bytes()):
                found.append(delivery)
        except (ValueError, KeyError, TypeError, struct.error):
            return found, False
        return found, bool(found)

    def remove(self, files: Iterable[Path]) -> None:
        """Forget files whose deliveries are in the store."""
        for file in files:
            file.unlink(missing_ok=True)
        _sync_directory(self.directory)

    def set_aside(self, file: Path) -> None:
        """Keep a file out of the way that blocks the others."""
        (self.directory / ASIDE).mkdir(exist_ok=True)
        file.rename(self.directory / ASIDE / file.name)
        log.error("a spool file cannot be drained and is set aside: %s", self.directory / ASIDE / file.name)

    def backlog(self) -> Backlog:
        """What waits; a file that has no name of ours counts by its size alone."""
        files = self.files()
        named = [match for file in files if (match := _NAME.match(file.name))]
        oldest = min((int(match["at"]) for match in named), default=time.time_ns())
        return Backlog(
            deliveries=sum(int(match["count"]) for match in named),
            size_bytes=sum(_size(file) for file in files),
            oldest_seconds=max(0.0, (time.time_ns() - oldest) / 1e9),
            aside=sum(1 for _ in (self.directory / ASIDE).glob("*")),
        )

    def check(self) -> None:
        """Raises `StoreUnavailable` in words where nothing can be spooled."""
        probe = self.directory / f".probe-{os.getpid()}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            free = _free(self.directory)
            write_durably(probe, b"probe")
            probe.unlink()
        except OSError as error:
            raise StoreUnavailable(f"{self.directory} cannot be written: {error.strerror}") from error
        if free < MIN_FREE_BYTES:
            raise StoreUnavailable(f"{self.directory} has less than 1 MiB free; make room")


def write_durably(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # drained meanwhile
        return float("inf")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# --- records

_ENVELOPE = [name for name in Delivery._fields if name != "body"]


def _packed(delivery: Delivery) -> bytes:
    values = {name: getattr(delivery, name) for name in _ENVELOPE}
    envelope = json.dumps(values, default=str).encode()
    checksum = zlib.crc32(delivery.body, zlib.crc32(envelope))
    return _HEADER.pack(_MAGIC, len(envelope), len(delivery.body), checksum) + envelope + delivery.body


def _unpacked(content: bytes) -> Iterator[Delivery]:
    """Raises `ValueError` at the first byte that is not as it was written."""
    at = 0
    while at < len(content):
        magic, envelope_size, body_size, checksum = _HEADER.unpack_from(content, at)
        start, middle = at + _HEADER.size, at + _HEADER.size + envelope_size
        at = middle + body_size
        envelope, body = content[start:middle], content[middle:at]
        if magic != _MAGIC or len(body) != body_size or zlib.crc32(body, zlib.crc32(envelope)) != checksum:
            raise ValueError("torn")
        yield _delivery(json.loads(envelope), body)


def _delivery(values: dict[str, Any], body: bytes) -> Delivery:
    return Delivery(
        **values
        | {
            "id": UUID(values["id"]),
            "received_at": datetime.fromisoformat(values["received_at"]),
            "product": Product(values["product"]) if values["product"] else None,
            "headers": tuple((name, value) for name, value in values["headers"]),
            "via": Via.SPOOL,
            "body": body,
        }
    )
