"""HTTP requests as Plum makes them, over keep-alive connections."""

from __future__ import annotations

import http.client
import select
import socket
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

# The exceptions of `exchange` if no response came; UnicodeError means an invalid host name.
NO_ANSWER = (OSError, http.client.HTTPException, UnicodeError)


class Connections:
    """One worker's keep-alive connections, one to each host."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._open: dict[tuple[str, str], http.client.HTTPConnection] = {}
        self._is_aborted = False

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Return status and body of the response. Raises one of `NO_ANSWER` if there is none.

        The body follows `Expect: 100-continue` at once, as RFC 9110 allows; http.client skips the 100.
        """
        parts = urlsplit(url)
        connection = self._connection(parts.scheme, parts.netloc)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        try:
            if connection.sock is None:
                connection.connect()
            if self._is_aborted:  # while it connected, `abort` had nothing to shut down
                raise ConnectionAbortedError
            connection.request(method, target, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.read()
        except NO_ANSWER:
            connection.close()
            raise

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()

    def abort(self) -> None:
        """End the current request at once, from another thread, as if the peer had closed the connection."""
        self._is_aborted = True
        for connection in list(self._open.values()):
            if connection.sock is not None:
                with suppress(OSError):  # the connection has just ended by itself
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def _connection(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        if (scheme, netloc) not in self._open:
            kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
            self._open[scheme, netloc] = kind(netloc, timeout=self._timeout)
        connection = self._open[scheme, netloc]
        if _closed_by_peer(connection):
            connection.close()
        return connection


def _closed_by_peer(connection: http.client.HTTPConnection) -> bool:
    """True if the peer closed an idle connection; curl checks this too before it reuses a connection."""
    if connection.sock is None:
        return False
    poller = select.poll()
    poller.register(connection.sock, select.POLLIN)
    return bool(poller.poll(0))
