"""The gunicorn worker class: gunicorn's gevent worker with limits for idle connections, slow heads and bad requests.

`deploy/gunicorn.conf.py` names it. It speaks HTTP/1; TLS and HTTP/2 are the proxy's.
https://gunicorn.org/design/#async-workers
"""

from __future__ import annotations

import logging
import re
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from gevent import socket
from gunicorn.http import get_parser
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.parser import Parser
from gunicorn.util import close, close_graceful
from gunicorn.workers.ggevent import GeventWorker

# The head of a result is below 8 kB; the URL of a query may have as much.
MAX_HEAD_BYTES = 32 * 1024
HEAD_SECONDS = 10.0  # the limit for the first byte of a head, and from there to its end
STALLED_SECONDS = 60.0  # the longest pause of a client that reads a response or sends a body
PIECE_BYTES = 64 * 1024  # of a response, sent at a time
DRAIN_BYTES = 2 * 1024 * 1024  # of an unread body, read so that its sender sees the response
IDLE_SECONDS = 1.0  # without a byte of a request; while the worker stops, such connections are closed
MAX_WAITING = 500  # connections before their first request, and as many between two requests
MAX_WORKING = 1000  # connections with a request under way
BOOT_FAILED = 1  # not gunicorn's own status for this, which would end the whole service

log = logging.getLogger("app.gunicorn_worker")


class Refusal(NamedTuple):
    """The response to an invalid request; `reason` is the metric's label."""

    status: str
    reason: str


# The first match counts.
REFUSALS: tuple[tuple[type[Exception], Refusal], ...] = (
    (LimitRequestLine, Refusal("414 URI Too Long", "long_url")),
    (LimitRequestHeaders, Refusal("431 Request Header Fields Too Large", "large_head")),
    (UnsupportedTransferCoding, Refusal("501 Not Implemented", "transfer_coding")),
    (ExpectationFailed, Refusal("417 Expectation Failed", "expectation")),
    (ParseException, Refusal("400 Bad Request", "malformed")),
    (TimeoutError, Refusal("408 Request Timeout", "slow_head")),
)
UNEXPECTED = Refusal("500 Internal Server Error", "unexpected")
OVERLOAD = Refusal("503 Service Unavailable", "overload")
LENGTH_REQUIRED = Refusal("411 Length Required", "no_length")
# How long a POST without a length is checked for a body; longer if no other request can follow.
UNANNOUNCED_SECONDS, LAST_UNANNOUNCED_SECONDS = 0.2, 3.0
# The headers that `web/errors.py` adds to every response; a test compares them.
GUARDING = (
    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\nX-Frame-Options: DENY\r\n"
)
_LENGTHS = {"CONTENT-LENGTH", "TRANSFER-ENCODING"}
_REQUEST_LINE = re.compile(rb"\s*[A-Z]{3,7} [^ \r\n]+ HTTP/1")


class Connection(socket.socket):
    """A client's socket, with time limits that depend on whether a request is under way."""

    def __init__(self, accepted: socket.socket, address: str) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self.address = address
        self._head_bytes = 0
        self._waiting_since = 0.0
        self._deadline: float | None = None
        self.expect_head(HEAD_SECONDS)

    @property
    def has_begun(self) -> bool:
        """True if a part of the head has arrived."""
        return self._head_bytes > 0

    @property
    def is_idle(self) -> bool:
        """True if nothing of a request has arrived for some time, so that none is likely to be on its way."""
        return not self.has_begun and time.monotonic() - self._waiting_since >= IDLE_SECONDS

    def expect_head(self, seconds: float) -> None:
        """Set the time limit for the first byte of the next request."""
        self._head_bytes = 0
        self._waiting_since = time.monotonic()
        self._deadline = self._waiting_since + seconds

    def has_head(self) -> None:
        """Note that a request is under way."""
        self._deadline = None
        self.settimeout(STALLED_SECONDS)

    def recv(self, *args: Any) -> bytes:
        """Raises `LimitRequestHeaders` for a head that is too large, and `TimeoutError` for a slow one."""
        if self._deadline is None:
            return super().recv(*args)
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self.settimeout(remaining)
        received = super().recv(*args)
        if not self.has_begun:
            self._deadline = time.monotonic() + HEAD_SECONDS
        self._head_bytes += len(received)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise LimitRequestHeaders("too large")
        return received

    def receive_at_once(self, seconds: float) -> bytes:
        """Return the bytes that arrive within this time."""
        self.settimeout(seconds)
        try:
            return super().recv(MAX_HEAD_BYTES)
        except OSError:
            return b""
        finally:
            self.settimeout(STALLED_SECONDS)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send with the time limit for each piece; the library's own would limit the whole response."""
        view = memoryview(data)
        while view:
            view = view[self.send(view[:PIECE_BYTES], flags) :]

    def reset_by_closing(self) -> None:
        """Let `close` discard unsent data, which a client that does not read would leave in the kernel's buffers."""
        self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def read_no_more(self) -> None:
        """Stop receiving: after the bytes that have arrived the connection looks closed by the client."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_RD)


class Waiting:
    """A bounded set of connections without a request under way.

    Beyond the limit, the oldest connection of the address with the most connections is closed, so that no address can
    keep others out.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._by_address: dict[str, dict[Connection, None]] = {}

    def add(self, connection: Connection) -> None:
        self._by_address.setdefault(connection.address, {})[connection] = None
        self._count += 1
        if self._count > self._limit:
            largest: dict[Connection, None] = max(self._by_address.values(), key=len)
            oldest = next(iter(largest))
            self.remove(oldest)
            oldest.read_no_more()

    def remove(self, connection: Connection) -> None:
        of_address = self._by_address.get(connection.address, {})
        if connection not in of_address:
            return
        del of_address[connection]
        self._count -= 1
        if not of_address:
            del self._by_address[connection.address]

    def end_idle(self) -> None:
        """Close the connections that are idle. Whoever sends often learns by the next response that it must close."""
        for of_address in self._by_address.values():
            for connection in of_address:
                if connection.is_idle:
                    connection.read_no_more()


class Chunks:
    """A reader of a chunked body that returns each chunk as it arrives.

    gunicorn's own reader collects as many bytes as are requested, and loses them if the sender disconnects.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.failed = False  # gunicorn reads it to know whether another request can follow
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        if not self._rest:
            try:
                self._rest = next(self._chunks, b"")
            except Exception:
                self.failed = True
                raise
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


class Worker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker; it bounds what clients hold and logs nothing that they sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._new = Waiting(MAX_WAITING)
        self._kept = Waiting(MAX_WAITING)
        self._unwanted = Waiting(MAX_WAITING)  # connections that still send an unread body
        self._working = 0

    def init_process(self) -> None:
        """Start; after a failure exit with a status at which the master tries again instead of ending the service."""
        try:
            super().init_process()
        except Exception:
            if self.booted:
                raise
            log.exception("a worker cannot start")
            time.sleep(1)
            sys.exit(BOOT_FAILED)

    def notify(self) -> None:
        """Called every second: idle connections must not delay a worker that is stopping.

        Connections in use stay open until their next response: a post sent while its connection is closed is lost.
        """
        super().notify()
        if not self.alive:
            self._new.end_idle()
            self._kept.end_idle()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection until it ends."""
        connection = Connection(client, addr[0] if addr else "")
        ours = listener.getsockname()
        try:
            parser = get_parser(self.cfg, connection, addr)
            while request := self._next(parser, connection, self._kept if parser.req_count else self._new):
                connection.has_head()
                self._serve(ours, request, parser, connection, addr)
                if not self._finish_body(parser, connection):
                    close_graceful(connection)
                    break
                connection.expect_head(self.cfg.keepalive)
        except (TimeoutError, ConnectionResetError):
            connection.reset_by_closing()
        except (StopIteration, OSError):
            pass  # the client has disconnected, or is disconnected
        except Exception as error:
            log.exception("unexpected failure of a connection", exc_info=error)
        finally:
            close(connection)

    def _next(self, parser: Parser, connection: Connection, waiting: Waiting) -> Any:
        """Return the next request; None if there is none, or if it is invalid."""
        waiting.add(connection)
        try:
            return next(parser)
        except (ParseException, TimeoutError) as error:
            if connection.has_begun:
                self._refuse(connection, refusal_of(error))
            return None
        finally:
            waiting.remove(connection)

    def _finish_body(self, parser: Parser, connection: Connection) -> bool:
        """Read the rest of the body, so that the client sees the response; return True if it is complete."""
        if getattr(getattr(parser.mesg.body, "reader", None), "length", None) == 0:
            return True  # the usual case
        self._unwanted.add(connection)
        try:
            whole: bool = parser.finish_body(time.monotonic() + HEAD_SECONDS, DRAIN_BYTES)
            return whole
        finally:
            self._unwanted.remove(connection)

    def _serve(self, ours: Any, request: Any, parser: Parser, connection: Connection, addr: Any) -> None:
        if self._working >= MAX_WORKING:
            self._refuse(connection, OVERLOAD, "Retry-After: 5\r\n")
            raise StopIteration
        if _has_unannounced_body(request, parser, connection):
            self._refuse(connection, LENGTH_REQUIRED)
            raise StopIteration
        if isinstance(request.body.reader, ChunkedReader):
            request.body = Chunks(request.body.reader.parser)
        self._working += 1
        try:
            self.handle_request(ours, request, connection, addr)
        except (StopIteration, OSError):
            raise
        except Exception as error:
            log.exception("unexpected failure of a request", exc_info=error)
            self._refuse(connection, refusal_of(error))
            raise StopIteration from None
        finally:
            self._working -= 1

    def _refuse(self, connection: Connection, refusal: Refusal, header: str = "") -> None:
        """Refuse a request. Response and log quote nothing of it: it may contain a key or a token."""
        self.wsgi.extensions["plum"].count_refused(refusal.reason)
        log.warning("a request was refused before it was read whole: %s", refusal.reason)
        connection.has_head()
        text = refusal.status.partition(" ")[2]
        head = f"HTTP/1.1 {refusal.status}\r\nConnection: close\r\nContent-Type: text/plain\r\n{GUARDING}{header}"
        with suppress(OSError):
            connection.sendall(f"{head}Content-Length: {len(text) + 1}\r\n\r\n{text}\n".encode())
        close_graceful(connection)


def _has_unannounced_body(request: Any, parser: Parser, connection: Connection) -> bool:
    """True if bytes follow a POST without a length. By HTTP it has no body, like a probe.

    https://www.rfc-editor.org/rfc/rfc9112#section-6.3
    """
    if request.method != "POST" or not _LENGTHS.isdisjoint(name for name, _ in request.headers):
        return False
    is_last = request.should_close()
    seconds = LAST_UNANNOUNCED_SECONDS if is_last else UNANNOUNCED_SECONDS
    following = parser.unreader.take_buffered() or connection.receive_at_once(seconds)
    parser.unreader.unread(following)
    return bool(following.strip()) and (is_last or not _REQUEST_LINE.match(following))


def refusal_of(error: Exception) -> Refusal:
    """Return the response to this failure."""
    return next((refusal for kind, refusal in REFUSALS if isinstance(error, kind)), UNEXPECTED)
