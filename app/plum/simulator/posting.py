"""Posts under way, which end when the platform does."""

from __future__ import annotations

import threading

from app.plum.simulator.connections import NO_ANSWER, Connections

POST_SECONDS = 30.0


class Posting:
    """Posts for several threads; none is tried again, since nobody knows whether Plum would."""

    def __init__(self) -> None:
        self._under_way: set[Connections] = set()
        self._lock = threading.Lock()

    def post(self, url: str, headers: dict[str, str], body: bytes) -> str:
        """The status of the answer, or the name of what went wrong."""
        connections = Connections(POST_SECONDS)
        with self._lock:
            self._under_way.add(connections)
        try:
            return str(connections.exchange("POST", url, headers, body)[0])
        except NO_ANSWER as error:
            return type(error).__name__
        finally:
            connections.close()
            with self._lock:
                self._under_way.remove(connections)

    def abort(self) -> None:
        """Ends what is under way, from another thread."""
        with self._lock:
            for connections in self._under_way:
                connections.abort()
