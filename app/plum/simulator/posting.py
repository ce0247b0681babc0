"""Posts of the platform, which are aborted when the platform closes."""

from __future__ import annotations

import threading

from app.plum.simulator.connections import NO_ANSWER, Connections

POST_SECONDS = 30.0


class Posting:
    """Sends posts for several threads, without retries, since it is unknown whether Plum retries."""

    def __init__(self) -> None:
        self._active: set[Connections] = set()
        self._lock = threading.Lock()
        self._is_aborted = False

    def post(self, url: str, headers: dict[str, str], body: bytes) -> str:
        """Send the post and return the status of the response, or the name of the exception."""
        connections = Connections(POST_SECONDS)
        with self._lock:
            if self._is_aborted:
                return ConnectionAbortedError.__name__
            self._active.add(connections)
        try:
            return str(connections.exchange("POST", url, headers, body)[0])
        except NO_ANSWER as error:
            return type(error).__name__
        finally:
            connections.close()
            with self._lock:
                self._active.remove(connections)

    def abort(self) -> None:
        """Abort the current posts, from another thread, and send no more."""
        with self._lock:
            self._is_aborted = True
            for connections in self._active:
                connections.abort()
