"""What only the server sees: connections that send nothing, heads that never end, requests that are no HTTP.

`deploy/gunicorn.conf.py` names this worker class. It is gunicorn's own for gevent with another care for connections:
https://gunicorn.org/design/#async-workers. It speaks HTTP/1; TLS and HTTP/2 are the proxy's.
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

# A result's head has less than 8 kB; a question may have that much in its URL.
MAX_HEAD_BYTES = 32 * 1024
HEAD_SECONDS = 10.0  # for a head, from the connection or its first byte on
STALLED_SECONDS = 60.0  # without a byte read of an answer, or sent of a body
PIECE_BYTES = 64 * 1024  # of an answer, given to the system at a time
DRAIN_BYTES = 2 * 1024 * 1024  # of a body that nobody wanted, so that its sender sees the answer
MAX_WAITING = 500  # connections that have sent no request yet, and as many that have had their answer
MAX_WORKING = 1000  # connections with one
BOOT_FAILED = 1  # any status but gunicorn's own for this, at which it would end the whole service

log = logging.getLogger("app.gunicorn_worker")


class Refusal(NamedTuple):
    """What a client hears of a request that is none; `reason` is the metric's label."""

    status: str
    reason: str


# The first that fits counts.
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
# For which a post without a length is looked at for bytes that follow it nevertheless: longer where nothing else can.
UNANNOUNCED_SECONDS, LAST_UNANNOUNCED_SECONDS = 0.2, 3.0
# What `web/errors.py` gives every answer of the application; a test holds the two together.
GUARDING = (
    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\nX-Frame-Options: DENY\r\n"
)
_LENGTHS = {"CONTENT-LENGTH", "TRANSFER-ENCODING"}
_REQUEST_LINE = re.compile(rb"\s*[A-Z]{3,7} [^ \r\n]+ HTTP/1")


class Connection(socket.socket):
    """A client's socket that knows whether a request is under way, and is patient accordingly."""

    def __init__(self, accepted: socket.socket, address: str) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self.address = address
        self._head_bytes = 0
        self._deadline: float | None = None
        self.expect_head(HEAD_SECONDS)

    @property
    def has_begun(self) -> bool:
        """Whether some of a head has come."""
        return self._head_bytes > 0

    def expect_head(self, seconds: float) -> None:
        """Wait so long for the first byte of the next request."""
        self._head_bytes = 0
        self._deadline = time.monotonic() + seconds

    def has_head(self) -> None:
        """A request is under way."""
        self._deadline = None
        self.settimeout(STALLED_SECONDS)

    def recv(self, *args: Any) -> bytes:
        """Raises `LimitRequestHeaders` and `TimeoutError` for a head that is too large or takes too long."""
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
        """What comes within this time; nothing where nothing does."""
        self.settimeout(seconds)
        try:
            return super().recv(MAX_HEAD_BYTES)
        except OSError:
            return b""
        finally:
            self.settimeout(STALLED_SECONDS)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """The time limit is for each piece that the system takes; the library's own is for all that is sent."""
        view = memoryview(data)
        while view:
            view = view[self.send(view[:PIECE_BYTES], flags) :]

    def reset_by_closing(self) -> None:
        """Who does not read would let what it was sent lie in the system's memory."""
        self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def read_no_more(self) -> None:
        """What has come already is still read; then the connection looks closed by the client."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_RD)


class Waiting:
    """Connections of one kind without a request under way.

    Beyond the limit the one that has waited longest has to go, of the address that has the most of them: so nobody
    keeps others out.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._by_address: dict[str, dict[Connection, None]] = {}

    def add(self, connection: Connection) -> None:
        self._by_address.setdefault(connection.address, {})[connection] = None
        self._count += 1
        if self._count > self._limit:
            most: dict[Connection, None] = max(self._by_address.values(), key=len)
            longest = next(iter(most))
            self.remove(longest)
            longest.read_no_more()

    def remove(self, connection: Connection) -> None:
        of_address = self._by_address.get(connection.address, {})
        if connection not in of_address:
            return
        del of_address[connection]
        self._count -= 1
        if not of_address:
            del self._by_address[connection.address]

    def end_idle(self) -> None:
        """Those that have sent nothing yet."""
        for of_address in self._by_address.values():
            for connection in of_address:
                if not connection.has_begun:
                    connection.read_no_more()


class Chunks:
    """A chunked body of which a read gives what has come.

    gunicorn's own reader gathers as much as is asked for, and loses it where the sender breaks off.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.failed = False  # gunicorn looks here whether another request can follow
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        if not self._rest:
            try:
                self._rest = next(self._chunks, b"")
            except Exception:
                self.failed = True
                raise
        given, self._rest = self._rest[:size], self._rest[size:]
        return given


class Worker(GeventWorker):  # type: ignore[misc]
    """gunicorn's worker for gevent, which bounds what strangers hold and logs nothing that they sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._new = Waiting(MAX_WAITING)
        self._kept = Waiting(MAX_WAITING)
        self._unwanted = Waiting(MAX_WAITING)  # that still send what nobody has read
        self._working = 0

    def init_process(self) -> None:
        """What stands in a worker's way at its start may pass, so the master is to try again and not to end."""
        try:
            super().init_process()
        except Exception:
            if self.booted:
                raise
            log.exception("a worker cannot start")
            time.sleep(1)
            sys.exit(BOOT_FAILED)

    def notify(self) -> None:
        """Called every second: those who wait must not hold up a worker that is to end."""
        super().notify()
        if not self.alive:
            self._new.end_idle()
            self._kept.end_idle()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """One connection, until it ends."""
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
            pass  # the client has gone, or has to go
        except Exception as error:
            log.exception("unexpected failure of a connection", exc_info=error)
        finally:
            close(connection)

    def _next(self, parser: Parser, connection: Connection, waiting: Waiting) -> Any:
        """The next request; None where there is none, or none that can be served."""
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
        """Whether all of the body has come, also what the application has not read; so that its answer is seen."""
        if getattr(getattr(parser.mesg.body, "reader", None), "length", None) == 0:
            return True  # as of nearly every request
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
        """The answer quotes nothing, nor does the log: a request line holds a key, a header may hold a token."""
        self.wsgi.extensions["plum"].count_refused(refusal.reason)
        log.warning("a request was refused before it was read whole: %s", refusal.reason)
        connection.has_head()
        text = refusal.status.partition(" ")[2]
        head = f"HTTP/1.1 {refusal.status}\r\nConnection: close\r\nContent-Type: text/plain\r\n{GUARDING}{header}"
        with suppress(OSError):
            connection.sendall(f"{head}Content-Length: {len(text) + 1}\r\n\r\n{text}\n".encode())
        close_graceful(connection)


def _has_unannounced_body(request: Any, parser: Parser, connection: Connection) -> bool:
    """Whether a post without a length has a body nevertheless; by HTTP it has none, and a probe has none either.

    https://www.rfc-editor.org/rfc/rfc9112#section-6.3
    """
    if request.method != "POST" or not _LENGTHS.isdisjoint(name for name, _ in request.headers):
        return False
    is_last = request.should_close()
    seconds = LAST_UNANNOUNCED_SECONDS if is_last else UNANNOUNCED_SECONDS
    came = parser.unreader.take_buffered() or connection.receive_at_once(seconds)
    parser.unreader.unread(came)
    return bool(came.strip()) and (is_last or not _REQUEST_LINE.match(came))


def refusal_of(error: Exception) -> Refusal:
    """What the client hears, and the metric counts, of this failure."""
    return next((refusal for kind, refusal in REFUSALS if isinstance(error, kind)), UNEXPECTED)
