"""The client of the process that owns the analytical copy."""

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

RECEIVED_SECONDS = 5.0  # for a sign that the process is alive
PATIENCE_SECONDS = 27.0  # waiting for a turn, for the copy to reach the horizon, and for the answer
STARTING_SECONDS = 5.0  # how long a client waits for a process that is starting
RETRY_SECONDS = 0.1


class Nearest:
    """The copy of the running service, or the file itself if no service runs. It is opened at the first question,
    since the store alone answers many questions."""

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
    """The engine of another process."""

    def __init__(self, path: Path, store: str) -> None:
        """`path` is the process's socket; `store` is the address of the store whose outcomes the copy holds."""
        self._path = path
        self._store = store
        self._away_since: float | None = None

    def is_there(self) -> bool:
        """True if a process owns the copy and accepts connections."""
        try:
            self._connect().close()
        except OSError:
            return False
        return True

    def ask(self, what: str, arguments: tuple[Any, ...], horizon: Horizon) -> Any:
        """Send a question and return its answer. Raises `CopyUnavailable`, and any error that the engine raises."""
        with closing(self._wait_and_connect()) as connection:
            return self._exchange(connection, Ask(self._store, what, arguments, horizon))

    def file(self, file: File, horizon: Horizon) -> Iterator[bytes]:
        """Return the file's blocks as soon as the first one has arrived; the others are read on demand."""
        connection = self._wait_and_connect()
        try:
            first = self._exchange(connection, Ask(self._store, "file", (file,), horizon))
        except BaseException:
            connection.close()
            raise
        return self._blocks(connection, first)

    def _blocks(self, connection: socket.socket, block: Any) -> Iterator[bytes]:
        with closing(connection):
            while not isinstance(block, Done):
                yield block
                block = self._receive(connection)

    def _wait_and_connect(self) -> socket.socket:
        """Connect to the process; wait for it while it starts, but fail at once if it is known to be away."""
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
        """Open a connection. Raises `OSError`."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(RECEIVED_SECONDS)
        try:
            with reachable(self._path) as address:
                connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection

    def _exchange(self, connection: socket.socket, ask: Ask) -> Any:
        try:
            send(connection, ask)
        except OSError as error:
            raise _away(error) from error
        self._receive(connection)  # `Received`
        connection.settimeout(PATIENCE_SECONDS)
        return self._receive(connection)

    def _receive(self, connection: socket.socket) -> Any:
        try:
            response = receive(connection)
        except OSError as error:
            raise _away(error) from error
        if isinstance(response, Failed):
            raise response.error
        return response


def _away(error: OSError) -> CopyUnavailable:
    if isinstance(error, TimeoutError):
        return CopyUnavailable("the analytical copy does not respond; ask again in a moment")
    return CopyUnavailable(
        "the analytical copy is away; it is started again by itself, so ask again in a moment",
        f"the process of the analytical copy does not answer: {error.strerror or type(error).__name__}",
    )
