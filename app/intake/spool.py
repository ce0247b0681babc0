"""Where deliveries wait while the store is away: files that each process appends to, and that one process drains.

What cannot be drained is set aside: deliveries that the store refuses, and damage, each without its neighbours.
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
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from app.errors import DISK_FULL, StoreUnavailable
from app.intake import spool_segments
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
GROUP = ".spool"  # of releases before segments: a file a group, its name ending with how many it holds
ABANDONED_SECONDS = 60  # what its writer did not finish by then never will be

_NAME = re.compile(r"(?P<at>\d{20})-\d+-\d+(-(?P<count>\d{1,9}))?\.")
_numbers = itertools.count()

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the spool."""

    deliveries: int
    size_bytes: int
    oldest_seconds: float
    aside: int  # files of what the store refused, or of damage


class Piece(NamedTuple):
    """Some deliveries of a file in their order, the damage among them, and what is drained once they are."""

    file: Path
    deliveries: list[Delivery]
    damage: list[bytes]
    then: Progress


class Spool:
    """A directory of segments, oldest first by name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._segment: Path | None = None  # that was appended to last
        self._appending = threading.Lock()
        self._passed_over: set[Path] = set()

    def append(self, deliveries: Sequence[Delivery]) -> None:
        """Returns once they survive a power cut. Raises `StoreUnavailable` where the disk does not take them."""
        content = b"".join(map(packed, deliveries))
        try:
            self._require_room()
            with self._appending:
                if self._segment is None or not spool_segments.append(self._segment, content, len(deliveries)):
                    segment = self.directory / _new_name(SUFFIX)
                    spool_segments.create(segment, content, len(deliveries))
                    self._segment = segment
        except OSError as error:
            self._segment = None
            raise StoreUnavailable(
                f"neither store nor spool can take a delivery: {error.strerror}",
                f"neither store nor spool can take a delivery: {self.directory}: {error.strerror}",
            ) from error

    def pieces(self) -> Iterator[Piece]:
        """What is to be drained, by one listing of the directory; `drained` is to be told of each."""
        for file in self._files():
            try:
                content, progress = spool_segments.read(file)
            except (FileNotFoundError, Busy):
                continue
            except OSError as error:
                if file not in self._passed_over:
                    log.error("%s cannot be drained, nor read: %s", file, error.strerror)
                self._passed_over.add(file)
                continue
            if not content:
                log.warning("%s is empty and is removed", file)
            yield from _pieces(file, content, progress)

    def drained(self, piece: Piece) -> None:
        """What is in the store need not wait any longer. Raises `OSError`."""
        for damage in piece.damage:
            self._keep_aside(damage, DAMAGED, f"damage in {piece.file.name}")
        try:
            spool_segments.note(piece.file, piece.then)
        except (FileNotFoundError, Busy):
            log.debug("%s is gone or in use; what of it is drained again counts once", piece.file)

    def set_aside(self, deliveries: Sequence[Delivery]) -> None:
        """Keep out of the way what would block others. Raises `OSError`."""
        self._keep_aside(b"".join(map(packed, deliveries)), SUFFIX, f"{len(deliveries)} deliveries")

    def retry(self) -> int:
        """Let what was set aside be drained again; how many files. Damage in which nothing is found is kept, but no
        longer counted."""
        found = 0
        for file in _listed(self.directory / ASIDE):
            try:
                found += self._retry(file)
            except OSError as error:
                log.error("%s cannot be tried again: %s", file, error.strerror)
        return found

    def _retry(self, file: Path) -> bool:
        """Whether it is to be drained. Raises `OSError`."""
        if not file.is_file() or file.suffix == UNREADABLE:
            return False
        if file.suffix == DAMAGED and all(record.delivery is None for record in records(file.read_bytes())):
            file.rename(file.with_suffix(UNREADABLE))
            return False
        file.rename(self.directory / _new_name(SUFFIX))
        return True

    def backlog(self) -> Backlog:
        """What waits; a file of nobody's name counts as one delivery."""
        now, found = time.time_ns(), list(filter(None, map(_extent, self._files())))
        return Backlog(
            deliveries=sum(one.deliveries for one in found),
            size_bytes=sum(one.size_bytes for one in found),
            oldest_seconds=max((now - one.since) / 1e9 for one in [*found, Extent(0, 0, now)]),
            aside=self.aside(),
        )

    def aside(self) -> int:
        """How many files are set aside, of which something may come yet."""
        return sum(file.suffix != UNREADABLE for file in _listed(self.directory / ASIDE))

    def free_bytes(self) -> int:
        """On its disk. Raises `OSError` where that cannot be told."""
        return _free(self.directory)

    def check(self) -> None:
        """Raises `StoreUnavailable` in words where nothing can be spooled."""
        probe = self.directory / f".probe-{os.getpid()}"
        try:
            self._require_room()
            write_durably(probe, b"probe")
            probe.unlink()
        except OSError as error:
            why = DISK_FULL if error.errno == errno.ENOSPC else f"it cannot be written: {error.strerror}"
            raise StoreUnavailable(why, f"{self.directory}: {why}") from error

    def _require_room(self) -> None:
        """Raises `OSError` where its disk is as good as full."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if _free(self.directory) < MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _files(self) -> list[Path]:
        """Oldest first."""
        return sorted(
            file
            for file in _listed(self.directory)
            if file.suffix in (SUFFIX, GROUP) or (file.suffix == UNFINISHED and _is_abandoned(file))
        )

    def _keep_aside(self, content: bytes, suffix: str, what: str) -> None:
        directory = self.directory / ASIDE
        directory.mkdir(exist_ok=True)
        file = directory / _new_name(suffix)
        write_durably(file, content)
        spool_segments.sync_directory(directory)
        log.error("%s cannot be drained and is set aside: %s", what, file)


def _pieces(file: Path, content: bytes, progress: Progress) -> Iterator[Piece]:
    deliveries: list[Delivery] = []
    damage: list[bytes] = []
    then = progress
    for start, end, delivery in records(content, progress.end):
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
    """None where nothing of it waits."""
    named = _NAME.match(file.name)
    try:
        if named and named["count"]:
            return Extent(int(named["count"]), file.stat().st_size, int(named["at"]))
        found = spool_segments.extent(file)
    except OSError:  # drained meanwhile
        return None
    began = int(named["at"]) if named else time.time_ns()
    return found._replace(since=found.since or began) if found.size_bytes else None


def _new_name(suffix: str) -> str:
    return f"{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}{suffix}"


def _listed(directory: Path) -> list[Path]:
    try:
        return [directory / name for name in os.listdir(directory)]
    except OSError:  # there is none yet, or it cannot be read; appending says so
        return []


def _free(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _is_abandoned(file: Path) -> bool:
    try:
        return file.stat().st_mtime < time.time() - ABANDONED_SECONDS
    except FileNotFoundError:
        return False
