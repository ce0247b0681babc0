"""The spool's files, called segments. A header with the numbers of appended and drained deliveries, then records.

Whoever appends, reads or removes holds the file's lock meanwhile. Nobody waits for the lock, since its holder may be
frozen. Content read under the lock is complete, except for the torn tail of a process that died during a write.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 8 << 20
UNFINISHED = ".unfinished"  # suffix of a segment that is not complete yet

_APPENDED = struct.Struct(">8sQ")
_DRAINED = struct.Struct(">QQQI")
_MAGIC = b"PLUMSEG1"
HEADER_BYTES = 64
_TRIES, _PAUSE_SECONDS = 20, 0.005


class Busy(Exception):
    """Another process holds the file's lock."""


class Progress(NamedTuple):
    """The part of a segment that is in the store: the number of deliveries, the `end` in bytes, and when the last one
    was received."""

    deliveries: int
    end: int
    since: int  # in nanoseconds; 0 before the first


class Extent(NamedTuple):
    """What waits in a segment; `since` is 0 if none of it is drained yet."""

    deliveries: int
    size_bytes: int
    since: int


def create(file: Path, records: bytes, count: int) -> None:
    """Create a segment; on return it survives a power cut. It is renamed when it is complete. Raises `OSError`."""
    unfinished = file.with_suffix(UNFINISHED)
    try:
        write_durably(unfinished, _APPENDED.pack(_MAGIC, count).ljust(HEADER_BYTES, b"\0") + records)
        unfinished.rename(file)
        sync_directory(file.parent)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def append(file: Path, records: bytes, count: int) -> bool:
    """Append records; return True when they are durable, False if the segment is full, gone or locked. Raises
    `OSError`, and then leaves the segment as it was."""
    try:
        with _locked(file, os.O_RDWR) as descriptor:
            size = os.fstat(descriptor).st_size
            head = os.pread(descriptor, _APPENDED.size, 0)
            if size < HEADER_BYTES or size + len(records) > MAX_BYTES or not head.startswith(_MAGIC):
                return False
            try:
                os.lseek(descriptor, size, os.SEEK_SET)
                _write(descriptor, records)
                os.pwrite(descriptor, _APPENDED.pack(_MAGIC, _APPENDED.unpack(head)[1] + count), 0)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                os.pwrite(descriptor, head, 0)
                raise
    except (FileNotFoundError, Busy):
        return False
    return True


def read(file: Path) -> tuple[bytes, Progress]:
    """Return the content and the progress. Raises `OSError`, `Busy`."""
    for _ in range(_TRIES):
        with contextlib.suppress(Busy), _locked(file, os.O_RDONLY, fcntl.LOCK_SH) as descriptor:
            with open(descriptor, "rb", closefd=False) as reading:
                content = reading.read()
            return content, _progress(content)
        time.sleep(_PAUSE_SECONDS)
    raise Busy


def note(file: Path, progress: Progress) -> None:
    """Store the progress, or remove the file if it is drained completely. Raises `OSError`, `Busy`."""
    with _locked(file, os.O_RDWR) as descriptor:
        if os.fstat(descriptor).st_size <= progress.end:
            file.unlink()
            os.ftruncate(descriptor, 0)  # a process may keep the removed file open for a long time
        elif os.pread(descriptor, len(_MAGIC), 0) == _MAGIC:
            fields = _DRAINED.pack(*progress, 0)[:-4]
            os.pwrite(descriptor, fields + zlib.crc32(fields).to_bytes(4), _APPENDED.size)


def extent(file: Path) -> Extent:
    """Return what waits, from the header alone and without the lock; at least one delivery if any bytes wait.

    Raises `OSError`.
    """
    with file.open("rb") as reading:
        header = reading.read(HEADER_BYTES)
        size = os.fstat(reading.fileno()).st_size
    drained = _progress(header)
    appended = _APPENDED.unpack_from(header)[1] if header.startswith(_MAGIC) and len(header) >= _APPENDED.size else 0
    waiting = max(0, size - drained.end)
    count = min(max(appended - drained.deliveries, 1), waiting)  # a header may be damaged
    return Extent(count, waiting, drained.since)


def write_durably(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _progress(header: bytes) -> Progress:
    """Parse the progress. A damaged or unwritten progress starts at the first record; a file without a header starts
    at its first byte."""
    if len(header) < HEADER_BYTES or not header.startswith(_MAGIC):
        return Progress(0, 0, 0)
    *fields, checksum = _DRAINED.unpack_from(header, _APPENDED.size)
    content = header[_APPENDED.size : _APPENDED.size + _DRAINED.size - 4]
    return Progress(*fields) if fields[1] and zlib.crc32(content) == checksum else Progress(0, HEADER_BYTES, 0)


@contextmanager
def _locked(file: Path, flags: int, lock: int = fcntl.LOCK_EX) -> Iterator[int]:
    """Open and lock the file. Raises `Busy`, and `FileNotFoundError` also if the file was removed meanwhile."""
    descriptor = os.open(file, flags)
    try:
        try:
            fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(file.name) from None
        if os.fstat(descriptor).st_nlink == 0:
            raise FileNotFoundError(file)
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
