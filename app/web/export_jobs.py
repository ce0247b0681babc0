"""Export jobs: processes that make files, few at a time, at the lowest priority, ended when nobody reads on."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from flask import request

from app.errors import Overloaded, PlumError, StoreUnavailable

MOST = 4  # of a whole service
BLOCK_BYTES = 1 << 18

log = logging.getLogger(__name__)


class Job:
    """One process, and the file that it makes. Its place among the few is held by a lock that ends with it."""

    def __init__(self, order: Mapping[str, Any], directory: Path) -> None:
        """Returns when the first bytes are there. Raises `Overloaded`, `StoreUnavailable`."""
        place = _place(directory)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.exporting", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[place],
                env={name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"},
            )
        finally:
            os.close(place)
        self._out, self._errors = _reader(self._process.stdout), _reader(self._process.stderr)
        assert self._process.stdin  # noqa: S101  asked for above
        with self._process.stdin as ordering:
            ordering.write(json.dumps(order).encode())
        self._first = self._read()
        if not self._first and (complaint := self._complaint()):
            raise complaint

    def blocks(self) -> Iterator[bytes]:
        """The file. Raises `StoreUnavailable` where it breaks off."""
        block = self._first
        while block:
            yield block
            block = self._read()
        if complaint := self._complaint():
            raise complaint

    def end(self) -> None:
        """Whether or not the file is whole."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._out.close()
        self._errors.close()

    def _read(self) -> bytes:
        return self._out.read1(BLOCK_BYTES)

    def _complaint(self) -> StoreUnavailable | None:
        """Why the process failed, once it is done; None where it did not."""
        detail, _, public = self._errors.read().decode(errors="replace").strip().rpartition("\n")
        if status := self._process.wait():
            return StoreUnavailable(public or f"its process ended with status {status}", detail)
        return None


def passed_on(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """A file's blocks, the first of which is there when this returns. Raises what keeps it from being made.

    Where the file turns out not to be whole the connection breaks, so that nobody takes it for such. Over HTTP/1.0
    its end is that of a connection that is closed as usual, so until the file is whole any end is a reset, also that
    of a worker that is killed.
    """
    first = next(blocks, b"")
    return _unless_broken(chain([first], blocks), request.environ.get("gunicorn.socket"))


def _unless_broken(blocks: Iterator[bytes], connection: socket.socket | None) -> Iterator[bytes]:
    _reset_by_closing(connection, True)
    try:
        yield from blocks
    except PlumError as error:
        log.error("an export broke off: %s", error.detail)
        raise ConnectionResetError(errno.ECONNRESET, "an export broke off") from error
    _reset_by_closing(connection, False)


def _reset_by_closing(connection: socket.socket | None, wanted: bool) -> None:
    """By lingering for no time at all. Servers other than gunicorn do not tell the connection."""
    if connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", wanted, 0))


def _reader(pipe: IO[bytes] | None) -> BufferedReader:
    return cast(BufferedReader, pipe)


def _place(directory: Path) -> int:
    """A place among the few, held while the descriptor is open in any process. Raises `Overloaded`, and
    `StoreUnavailable` where the spool's directory cannot be written."""
    for number in range(MOST):
        try:
            place = os.open(directory / f"export-{number}.lock", os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError as error:
            wrong = "exports are counted in the spool's directory, which cannot be written"
            raise StoreUnavailable(wrong, f"{wrong}: {directory}: {error.strerror}") from error
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(place)
        else:
            return place
    raise Overloaded(f"{MOST} exports are being made; try again when one is done")
