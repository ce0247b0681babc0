"""Questions to the process that has the copy."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.analytics.protocol import Ask, Done, Failed, File, reachable, receive, send
from app.errors import CopyUnavailable
from app.store.journal import Horizon

if TYPE_CHECKING:
    from app.analytics.engine import Engine

PATIENCE_SECONDS = 27.0  # a turn, coming as far as the asker's horizon, and the answer
STARTING_SECONDS = 5.0  # for the process to be there, as after a start
RETRY_SECONDS = 0.1


class Nearest:
    """The copy of the running service, else the file itself. It is opened when it is first asked: many questions are
    for the store alone."""

    def __init__(self, remote: Remote, open_engine: Callable[[], Engine]) -> None:
        self._remote = remote
        self._open_engine = open_engine

    @cached_property
    def _copy(self) -> Remote | Engine:
        return self._remote if self._remote.is_there() else self._open_engine()

    def ask(self, what: str, arguments: tuple[Any, ...], horizon: Horizon) -> Any:
        return self._copy.ask(what, arguments, horizon)

    def file(self, file: File, horizon: Horizon) -> Iterator[bytes]:
        return self._copy.file(file, horizon)


class Remote:
    """Another process's engine."""

    def __init__(self, path: Path, store: str) -> None:
        """`path` is its socket, `store` says whose outcomes are meant."""
        self._path = path
        self._store = store
        self._away_since: float | None = None

    def is_there(self) -> bool:
        """Whether a process has the copy, and takes questions."""
        try:
            self._connect().close()
        except OSError:
            return False
        return True

    def ask(self, what: str, arguments: tuple[Any, ...], horizon: Horizon) -> Any:
        """Raises `CopyUnavailable`, and what the engine raises."""
        with closing(self._connected()) as connection:
            return self._exchanged(connection, Ask(self._store, what, arguments, horizon))

    def file(self, file: File, horizon: Horizon) -> Iterator[bytes]:
        """Returns once the first block is there; what follows is read as it is wanted."""
        connection = self._connected()
        try:
            first = self._exchanged(connection, Ask(self._store, "file", (file,), horizon))
        except BaseException:
            connection.close()
            raise
        return self._blocks(connection, first)

    def _blocks(self, connection: socket.socket, block: Any) -> Iterator[bytes]:
        with closing(connection):
            while not isinstance(block, Done):
                yield block
                block = self._received(connection)

    def _connected(self) -> socket.socket:
        """Who asks while the process starts waits for it; once it is known to be away, nobody does."""
        while True:
            try:
                connection = self._connect()
            except OSError as error:
                self._away_since = self._away_since or time.monotonic()
                if time.monotonic() - self._away_since > STARTING_SECONDS:
                    raise _away(error) from error
                time.sleep(RETRY_SECONDS)
            else:
                self._away_since = None
                return connection

    def _connect(self) -> socket.socket:
        """Raises `OSError`."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_SECONDS)
        try:
            with reachable(self._path) as address:
                connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection

    def _exchanged(self, connection: socket.socket, ask: Ask) -> Any:
        try:
            send(connection, ask)
        except OSError as error:
            raise _away(error) from error
        return self._received(connection)

    def _received(self, connection: socket.socket) -> Any:
        try:
            answer = receive(connection)
        except OSError as error:
            raise _away(error) from error
        if isinstance(answer, Failed):
            raise answer.error
        return answer


def _away(error: OSError) -> CopyUnavailable:
    return CopyUnavailable(
        "the analytical copy is away; it is started again by itself, so ask again in a moment",
        f"the process of the analytical copy does not answer: {error.strerror or type(error).__name__}",
    )
