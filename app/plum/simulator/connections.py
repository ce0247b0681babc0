"""Requests as Plum makes them, over connections that are kept."""

from __future__ import annotations

import http.client
import select
import socket
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

# What `exchange` raises where no answer came; UnicodeError is of a host's name that cannot be one.
NO_ANSWER = (OSError, http.client.HTTPException, UnicodeError)


class Connections:
    """One worker's keep-alive connections, one to each host."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._open: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Status and text of the answer; raises OSError or HTTPException if there is none.

        The body follows `Expect: 100-continue` at once, as RFC 9110 allows; http.client skips the 100.
        """
        parts = urlsplit(url)
        connection = self._connection(parts.scheme, parts.netloc)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        try:
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except NO_ANSWER:
            connection.close()
            raise

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()

    def abort(self) -> None:
        """For another thread: what is under way ends at once, as if the other end had left."""
        for connection in list(self._open.values()):
            if connection.sock is not None:
                with suppress(OSError):  # it has just ended by itself
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def _connection(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        if (scheme, netloc) not in self._open:
            kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
            self._open[scheme, netloc] = kind(netloc, timeout=self._timeout)
        connection = self._open[scheme, netloc]
        if _left_by_peer(connection):
            connection.close()
        return connection


def _left_by_peer(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection was closed at the other end: as curl does, look before using it again."""
    if connection.sock is None:
        return False
    watch = select.poll()
    watch.register(connection.sock, select.POLLIN)
    return bool(watch.poll(0))
