"""The messages between clients and the copy's process, over a Unix socket that only the service's user can open.

Both ends are this program, run by one user: anyone who can write to the socket could also write to the process's
memory, so pickle is safe here. Web workers load this module, which does not load DuckDB.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import PlumError
from app.store.journal import Horizon
from app.store.query.question import Question

_LENGTH = struct.Struct(">Q")


class Ask(NamedTuple):
    """A question by its name, or an export; `store` identifies the store whose outcomes the copy has to hold."""

    store: str
    what: str
    arguments: tuple[Any, ...]
    horizon: Horizon


class Received(NamedTuple):
    """Sent at once for each question: the process is alive, however long the answer takes."""


class Failed(NamedTuple):
    """Sent instead of an answer, or instead of the rest of a file."""

    error: PlumError


class Done(NamedTuple):
    """Sent after the last block of a file."""


@dataclass(frozen=True, slots=True)
class File:
    """An export. `form` is csv, ndjson, parquet or redial, which omits the numbers in `without`; `raw` omits the
    guard of CSV's text cells."""

    form: str
    question: Question
    fields: Sequence[str] = ()
    reveal: bool = False
    raw: bool = False
    without: Sequence[str] = ()


def socket_of(copy: Path) -> Path:
    """Return the path of the socket of the process that owns this copy."""
    return copy.with_name(f"{copy.name}.sock")


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Yield a short path to the file, since a socket's address holds only about a hundred characters."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def send(connection: socket.socket, message: Any) -> None:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    connection.sendall(_LENGTH.pack(len(content)) + content)


def receive(connection: socket.socket) -> Any:
    """Receive one message. Raises `OSError` if the other end closes the connection."""
    [length] = _LENGTH.unpack(_receive_exactly(connection, _LENGTH.size))
    return pickle.loads(_receive_exactly(connection, length))  # noqa: S301


def _receive_exactly(connection: socket.socket, length: int) -> bytes:
    content = bytearray()
    while len(content) < length:
        block = connection.recv(min(length - len(content), 1 << 20))
        if not block:
            raise ConnectionResetError
        content += block
    return bytes(content)
