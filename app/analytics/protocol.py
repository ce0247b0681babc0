"""What passes between who asks and the process that has the copy, over a Unix socket for the service's user alone.

Both ends are this program, run by one user: who can write to the socket could as well write to the process's memory,
so what passes is pickled. Web workers load this, and nothing of DuckDB.
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
    """A question by its name, or a file; `store` is whose outcomes are meant."""

    store: str
    what: str
    arguments: tuple[Any, ...]
    horizon: Horizon


class Failed(NamedTuple):
    """In place of an answer, or of the rest of a file."""

    error: PlumError


class Done(NamedTuple):
    """Behind the last block of a file."""


@dataclass(frozen=True, slots=True)
class File:
    """`form` is csv, ndjson, parquet or redial, which leaves the numbers in `without` out; `raw` leaves out the guard
    of CSV's text cells."""

    form: str
    question: Question
    fields: Sequence[str] = ()
    reveal: bool = False
    raw: bool = False
    without: Sequence[str] = ()


def socket_of(copy: Path) -> Path:
    """Where the process that has this copy is asked."""
    return copy.with_name(f"{copy.name}.sock")


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """The path in few characters: a socket's address has room for a hundred."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def send(connection: socket.socket, message: Any) -> None:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    connection.sendall(_LENGTH.pack(len(content)) + content)


def receive(connection: socket.socket) -> Any:
    """Raises `OSError` where the other end is gone."""
    [length] = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return pickle.loads(_exactly(connection, length))  # noqa: S301


def _exactly(connection: socket.socket, length: int) -> bytes:
    content = bytearray()
    while len(content) < length:
        block = connection.recv(min(length - len(content), 1 << 20))
        if not block:
            raise ConnectionResetError
        content += block
    return bytes(content)
