"""Export jobs: low-priority processes that make files, few at a time; they end when the client stops reading."""

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
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from flask import request

from app.errors import Overloaded, PlumError, StoreUnavailable
from app.web.errors import Unauthorised
from app.web.session import validity

MOST = 4  # jobs at a time, of all workers together
BLOCK_BYTES = 1 << 18

log = logging.getLogger(__name__)


class Job:
    """A process, and the file that it makes. A file lock holds its slot and is released when the process ends."""

    def __init__(self, order: Mapping[str, Any], directory: Path) -> None:
        """Start the process and wait for its first bytes. Raises `Overloaded`, `StoreUnavailable`."""
        slot = _acquire_slot(directory)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.exporting", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[slot],
                env={name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"},
            )
        finally:
            os.close(slot)
        self._out, self._errors = _reader(self._process.stdout), _reader(self._process.stderr)
        assert self._process.stdin  # noqa: S101  requested above
        with self._process.stdin as stdin:
            stdin.write(json.dumps(order).encode())
        self._first = self._read()
        if not self._first and (complaint := self._complaint()):
            raise complaint

    def blocks(self) -> Iterator[bytes]:
        """Yield the file's blocks. Raises `StoreUnavailable` if the process fails."""
        block = self._first
        while block:
            yield block
            block = self._read()
        if complaint := self._complaint():
            raise complaint

    def end(self) -> None:
        """End the process, whether or not the file is complete."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._out.close()
        self._errors.close()

    def _read(self) -> bytes:
        return self._out.read1(BLOCK_BYTES)

    def _complaint(self) -> StoreUnavailable | None:
        """Wait for the process to end. Returns why it failed, or None."""
        detail, _, public = self._errors.read().decode(errors="replace").strip().rpartition("\n")
        if status := self._process.wait():
            return StoreUnavailable(public or f"its process ended with status {status}", detail)
        return None


def passed_on(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Return the file's blocks for the response, after reading the first. Raises the error that prevents the file.

    If the file breaks off later, as when its token is revoked, the connection is reset, so that no client takes the
    file for complete. Over HTTP/1.0 the end of a file is a normal close of the connection. Therefore every close is a
    reset until the file is complete, even the one of a worker that is killed.
    """
    first = next(blocks, b"")
    return _unless_broken(chain([first], blocks), validity(), request.environ.get("gunicorn.socket"))


def _unless_broken(
    blocks: Iterator[bytes], is_valid: Callable[[], bool], connection: socket.socket | None
) -> Iterator[bytes]:
    _set_reset_on_close(connection, True)
    try:
        for block in blocks:
            if not is_valid():
                raise Unauthorised("its token was revoked")
            yield block
    except PlumError as error:
        log.error("an export broke off: %s", error.detail)
        raise ConnectionResetError(errno.ECONNRESET, "an export broke off") from error
    _set_reset_on_close(connection, False)


def _set_reset_on_close(connection: socket.socket | None, enabled: bool) -> None:
    """Let closing send a reset (SO_LINGER with a timeout of 0). Only gunicorn gives access to the connection."""
    if connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", enabled, 0))


def _reader(pipe: IO[bytes] | None) -> BufferedReader:
    return cast(BufferedReader, pipe)


def _acquire_slot(directory: Path) -> int:
    """Lock a slot and return its file descriptor; the slot is taken while any process has the descriptor open.

    Raises `Overloaded` if no slot is free, and `StoreUnavailable` if the spool directory cannot be written.
    """
    for number in range(MOST):
        try:
            slot = os.open(directory / f"export-{number}.lock", os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError as error:
            message = "exports are counted in the spool's directory, which cannot be written"
            raise StoreUnavailable(message, f"{message}: {directory}: {error.strerror}") from error
        try:
            fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(slot)
        else:
            return slot
    raise Overloaded(f"{MOST} exports are being made; try again when one is done")
