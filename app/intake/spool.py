"""The spool: files in which deliveries wait while the store is away. Every process appends; one process drains.

What cannot be drained is set aside without its neighbours: deliveries that the store refuses, and damaged bytes.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from app.cooperative import Threads, aside
from app.errors import DISK_FULL, StoreUnavailable
from app.intake import spool_segments
from app.intake.breaker import within
from app.intake.spool_records import packed, records
from app.intake.spool_segments import UNFINISHED, Busy, Extent, Progress, write_durably
from app.model import Delivery

SUFFIX = ".segment"
DAMAGED = ".damaged"
UNREADABLE = ".unreadable"
ASIDE = "aside"
PIECE = 200  # deliveries that are drained at once
PIECE_BYTES = 4 << 20
MIN_FREE_BYTES = 1 << 20
APPEND_SECONDS = 10.0  # for the disk; a sender may have gone after that
GROUP = ".spool"  # suffix in releases before segments: a file for each group; its name has the number of deliveries
ABANDONED_SECONDS = 60  # an unfinished file this old has no writer any more

_NAME = re.compile(r"(?P<at>\d{20})-\d+-\d+(-(?P<count>\d{1,9}))?\.")
_numbers = itertools.count()

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the spool."""

    deliveries: int
    size_bytes: int
    oldest_seconds: float
    aside: int  # files of refused deliveries, or of damage


class Piece(NamedTuple):
    """Some consecutive deliveries of a file, the damage among them, and the file's progress after they are
    drained."""

    file: Path
    deliveries: list[Delivery]
    damage: list[bytes]
    then: Progress


class Spool:
    """A directory of segments whose names sort by age."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._segment: Path | None = None  # the segment that was last appended to
        self._appending = threading.Lock()
        self._disk = Threads(1)
        self._passed_over: set[Path] = set()

    def append(self, deliveries: Sequence[Delivery]) -> None:
        """Append the deliveries; on return they survive a power cut. Raises `StoreUnavailable` if the disk fails, or
        does not answer; it may then still take them."""
        content = b"".join(map(packed, deliveries))
        try:
            if not self._appending.acquire(timeout=APPEND_SECONDS):
                raise StoreUnavailable(f"no answer within {APPEND_SECONDS:g} s")
            within(APPEND_SECONDS, lambda: self._append(content, len(deliveries)))
        except (StoreUnavailable, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise StoreUnavailable(
                f"neither store nor spool can take a delivery: {reason}",
                f"neither store nor spool can take a delivery: {self.directory}: {reason}",
            ) from error

    def _append(self, content: bytes, count: int) -> None:
        """Append to this process's segment, or to a new one; release the lock. Raises `OSError`."""
        try:
            aside(self._write, content, count, threads=self._disk)
        finally:
            self._appending.release()

    def _write(self, content: bytes, count: int) -> None:
        self._require_room()
        segment, self._segment = self._segment, None
        if segment is None or not spool_segments.append(segment, content, count):
            segment = self.directory / _new_name(SUFFIX)
            spool_segments.create(segment, content, count)
        self._segment = segment

    def pieces(self) -> Iterator[Piece]:
        """Yield what is to be drained, from one listing of the directory; the caller reports each piece to
        `drained`."""
        for file in self._files():
            try:
                content, progress = spool_segments.read(file)
            except (FileNotFoundError, Busy):
                continue
            except OSError as error:
                if file not in self._passed_over:
                    log.error("%s cannot be read, so it cannot be drained: %s", file, error.strerror)
                self._passed_over.add(file)
                continue
            if not content:
                log.warning("%s is empty and is removed", file)
            yield from _pieces(file, content, progress)

    def drained(self, piece: Piece) -> None:
        """Record that a piece is in the store. Raises `OSError`."""
        for damage in piece.damage:
            self._keep_aside(damage, DAMAGED, f"damage in {piece.file.name}")
        try:
            spool_segments.note(piece.file, piece.then)
        except (FileNotFoundError, Busy):
            log.debug("%s is gone or in use; deliveries that are drained twice count once", piece.file)

    def set_aside(self, deliveries: Sequence[Delivery]) -> None:
        """Set aside deliveries that would block others. Raises `OSError`."""
        self._keep_aside(b"".join(map(packed, deliveries)), SUFFIX, f"{len(deliveries)} deliveries")

    def retry(self) -> int:
        """Move files that were set aside back into the spool; return their number. Damage without a readable delivery
        stays, but is no longer counted, unless a newer release wrote it, which can read it."""
        moved = 0
        for file in _files_in(self.directory / ASIDE):
            try:
                moved += self._retry(file)
            except OSError as error:
                log.error("%s cannot be tried again: %s", file, error.strerror)
        return moved

    def _retry(self, file: Path) -> bool:
        """Move one file back; return True if it is to be drained again. Raises `OSError`."""
        if not file.is_file() or file.suffix == UNREADABLE:
            return False
        found = list(records(file.read_bytes())) if file.suffix == DAMAGED else []
        if found and all(record.delivery is None for record in found):
            if not any(record.is_whole for record in found):
                file.rename(file.with_suffix(UNREADABLE))
            return False
        file.rename(self.directory / _new_name(SUFFIX))
        return True

    def backlog(self) -> Backlog:
        """Return what waits; a file with an unknown name counts as one delivery."""
        now, extents = time.time_ns(), list(filter(None, map(_extent, self._files())))
        return Backlog(
            deliveries=sum(extent.deliveries for extent in extents),
            size_bytes=sum(extent.size_bytes for extent in extents),
            oldest_seconds=max((now - extent.since) / 1e9 for extent in [*extents, Extent(0, 0, now)]),
            aside=self.aside(),
        )

    def aside(self) -> int:
        """Count the files set aside that may still contain deliveries."""
        return sum(file.suffix != UNREADABLE for file in _files_in(self.directory / ASIDE))

    def free_bytes(self) -> int:
        """Return the free bytes of the spool's disk. Raises `OSError`."""
        return _free(self.directory)

    def check(self) -> None:
        """Check that deliveries can be spooled. Raises `StoreUnavailable` with the reason if not."""
        probe = self.directory / f".probe-{os.getpid()}"
        try:
            self._require_room()
            write_durably(probe, b"probe")
            probe.unlink(missing_ok=True)  # a process of another container may have the same number
        except OSError as error:
            reason = DISK_FULL if error.errno == errno.ENOSPC else f"it cannot be written: {error.strerror}"
            raise StoreUnavailable(reason, f"{self.directory}: {reason}") from error

    def _require_room(self) -> None:
        """Raises `OSError` if the disk is nearly full."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if _free(self.directory) < MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _files(self) -> list[Path]:
        """Return the files to drain, the oldest first."""
        return sorted(
            file
            for file in _files_in(self.directory)
            if file.suffix in (SUFFIX, GROUP) or (file.suffix == UNFINISHED and _is_abandoned(file))
        )

    def _keep_aside(self, content: bytes, suffix: str, what: str) -> None:
        directory = self.directory / ASIDE
        directory.mkdir(exist_ok=True)
        file = directory / _new_name(suffix)
        try:
            write_durably(file, content)
            spool_segments.sync_directory(directory)
        except OSError:
            with suppress(OSError):
                file.unlink(missing_ok=True)
            raise
        log.error("%s cannot be drained and is set aside: %s", what, file)


def _pieces(file: Path, content: bytes, progress: Progress) -> Iterator[Piece]:
    deliveries: list[Delivery] = []
    damage: list[bytes] = []
    then = progress
    for start, end, delivery, _ in records(content, progress.end):
        if delivery is None:
            damage.append(content[start:end])
            then = then._replace(end=end)
        else:
            deliveries.append(delivery)
            then = Progress(then.deliveries + 1, end, int(delivery.received_at.timestamp() * 1e9))
        if len(deliveries) == PIECE or then.end - progress.end > PIECE_BYTES:
            yield Piece(file, deliveries, damage, then)
            progress, deliveries, damage = then, [], []
    if then == progress or deliveries or damage:
        yield Piece(file, deliveries, damage, then)


def _extent(file: Path) -> Extent | None:
    """Return what waits in a file; None if nothing does."""
    name = _NAME.match(file.name)
    try:
        if name and name["count"]:
            return Extent(int(name["count"]), file.stat().st_size, int(name["at"]))
        extent = spool_segments.extent(file)
    except OSError:  # drained meanwhile
        return None
    began = int(name["at"]) if name else time.time_ns()
    return extent._replace(since=extent.since or began) if extent.size_bytes else None


def _new_name(suffix: str) -> str:
    return f"{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}{suffix}"


def _files_in(directory: Path) -> list[Path]:
    try:
        return [directory / name for name in os.listdir(directory)]
    except OSError:  # the directory does not exist yet or cannot be read; appending reports that
        return []


def _free(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def _is_abandoned(file: Path) -> bool:
    try:
        return file.stat().st_mtime < time.time() - ABANDONED_SECONDS
    except FileNotFoundError:
        return False
