"""A stand-in for Plum that answers with given bytes, whole, half or never, and clients that talk to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from app.plum.client import BulkRequest, CallRequest, Client, Clocks, Timeouts, connect

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
USER, SECRET = "user@example.com", "98765432"
PHONE = "+16175550123"
RESULT_URL = "http://calls.example/result/SECRETKEY/call/appt-42"
PLACES = {
    "dev": {"start_url": "http://calls.example/start/SECRETKEY"},
    "insight": {"to": "12/3"},
    "fuse": {"to": "4/5"},
}

Answer = Callable[[socket.socket], None]


class Peer:
    """Reads one whole request a connection, answers it in its own way, and closes."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._leaving = threading.Event()
        self.requests: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self._leaving.is_set():
                    return
                self.requests.append(whole_request(connection))
                self._answer(connection)

    def leave(self) -> None:
        self._leaving.set()
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join()
        self._listener.close()


def whole_request(connection: socket.socket) -> bytes:
    connection.settimeout(10)
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536)
    head, _, _ = request.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(request) < len(head) + 4 + sum(lengths):
        request += connection.recv(65536)
    return request


@contextmanager
def peer(answer: bytes | Answer) -> Iterator[Peer]:
    made = Peer(answer if callable(answer) else lambda connection: connection.sendall(answer))
    try:
        yield made
    finally:
        made.leave()


def client(product: str, url: str, *, sleeps: list[float] | None = None, seconds: float = 5.0) -> Client:
    """One whose pauses take no time and are noted in `sleeps`; `seconds` is its patience for each phase."""
    pauses = [] if sleeps is None else sleeps
    clocks = Clocks(now=lambda: NOW, monotonic=lambda: sum(pauses), sleep=pauses.append)
    return connect(
        product, url, USER, SECRET, timeouts=Timeouts(seconds, seconds, seconds, 2 * seconds), clocks=clocks
    )


def call_request(product: str, **fields: object) -> CallRequest:
    return CallRequest(**{"phone": PHONE, "result_url": RESULT_URL, **PLACES[product], **fields})


def bulk_request(product: str, **fields: object) -> BulkRequest:
    csv = b"destination,message_reference\n16175550123,a\n16175550124,b\n"
    return BulkRequest(**{"name": "reminders", "csv": csv, "result_url": RESULT_URL, **PLACES[product], **fields})


def perform(plum: Client, call: str) -> object:
    """One of the client's four verbs, with a request that Plum could take."""
    match call:
        case "queue":
            return plum.queue(call_request(plum.product))
        case "bulk_queue":
            return plum.bulk_queue(bulk_request(plum.product))
        case "status":
            return plum.status("155761")
        case _:
            return plum.cancel(PLACES[plum.product]["to"])


@pytest.fixture
def nobody() -> str:
    """The address of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
