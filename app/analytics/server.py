"""The server in the copy's process: it answers questions over a Unix socket (`protocol.py`)."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.analytics.engine import Engine
from app.analytics.protocol import Ask, Done, Failed, File, Received, reachable, receive, send
from app.errors import MustReopen, Overloaded, PlumError, StoreUnavailable
from app.store.journal import Horizon

AT_ONCE = 4  # questions; each uses all processors
FILES_AT_ONCE = 4
SLICE_SECONDS = 5.0
SEND_SECONDS = 90.0  # for a client that stalls: longer than the web worker's own timeout for its client
_ANOTHER_STORE = "a service with another PLUM_DATABASE_URL uses this PLUM_ANALYTICS_PATH; give each its own"

log = logging.getLogger(__name__)


class Server:
    """Listens at `path`; each connection carries one question."""

    def __init__(self, engine: Engine, path: Path, store: str) -> None:
        self._engine = engine
        self._store = store
        self._path = path
        self._questions = threading.Semaphore(AT_ONCE)
        self._files = threading.Semaphore(FILES_AT_ONCE)
        self._listening = socket.socket(socket.AF_UNIX)
        self.failure: MustReopen | None = None
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set or the copy has to be opened again; `failure` then holds the error."""
        self._stop = stop
        with reachable(self._path) as address:
            with suppress(FileNotFoundError):
                os.unlink(address)
            previous_umask = os.umask(0o177)
            try:
                self._listening.bind(address)
            finally:
                os.umask(previous_umask)
        self._listening.listen(64)
        self._listening.settimeout(0.5)
        while not stop.is_set():
            with suppress(TimeoutError):
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        self._listening.close()
        self._path.unlink(missing_ok=True)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(SEND_SECONDS)
            try:
                ask = receive(connection)
                send(connection, Received())
                self._answer(connection, ask)
            except OSError:  # the client has closed the connection
                return

    def _answer(self, connection: socket.socket, ask: Ask) -> None:
        try:
            if ask.store != self._store:
                raise StoreUnavailable(_ANOTHER_STORE)
            if ask.what == "file":
                self._send_file(connection, *ask.arguments, horizon=ask.horizon)
            else:
                with _turn(self._questions, "questions are being answered", SLICE_SECONDS):
                    send(connection, self._engine.ask(ask.what, ask.arguments, ask.horizon))
        except OSError:
            raise
        except PlumError as error:
            if isinstance(error, MustReopen):
                self.failure = error
                self._stop.set()
            send(connection, Failed(_without_cause(error)))
        except Exception as error:
            log.error("a question of %s failed", ask.what, exc_info=error)
            send(connection, Failed(PlumError("an unexpected failure; the log has its trace")))

    def _send_file(self, connection: socket.socket, file: File, *, horizon: Horizon) -> None:
        with _turn(self._files, "exports are being made", 0):
            blocks = self._engine.file(file, horizon)
            try:
                for block in blocks:
                    send(connection, block)
                    if _is_gone(connection):
                        return
            finally:
                blocks.close()  # type: ignore[attr-defined]
            send(connection, Done())


def _without_cause(error: PlumError) -> PlumError:
    """Remove the error's cause and traceback, which may not be picklable."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _is_gone(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable)


@contextmanager
def _turn(places: threading.Semaphore, what: str, seconds: float) -> Iterator[None]:
    if not places.acquire(timeout=seconds or None, blocking=seconds > 0):
        raise Overloaded(f"as many {what} as can be at once; try again in a moment")
    try:
        yield
    finally:
        places.release()
