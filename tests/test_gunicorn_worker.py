"""The worker's care for connections: who has to go, how long is waited for whom, and what a refusal says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from gevent import sleep, socket, spawn
from gunicorn.http.errors import InvalidHeader, LimitRequestHeaders, LimitRequestLine, UnsupportedTransferCoding

from app import gunicorn_worker
from app.gunicorn_worker import GUARDING, Chunks, Connection, Waiting, refusal_of
from app.web import errors

Ends = tuple[Connection, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A connection and its client's end."""
    ours, theirs = socket.socketpair()
    with closing(Connection(ours, "a")) as connection, closing(theirs):
        yield connection, theirs


class Closable:
    """Stands for a connection of this address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_idle = True
        self.is_ended = False

    def read_no_more(self) -> None:
        self.is_ended = True


def test_beyond_the_limit_the_oldest_connection_of_the_busiest_address_is_closed() -> None:
    waiting = Waiting(4)
    many = [Closable("many") for _ in range(3)]
    others = [Closable("other"), Closable("third")]
    for connection in [others[0], *many, others[1]]:
        waiting.add(connection)
    assert [one.is_ended for one in [*many, *others]] == [True, False, False, False, False]
    waiting.add(Closable("many"))
    assert [one.is_ended for one in [*many, *others]] == [True, True, False, False, False]


def test_a_connection_with_a_request_under_way_is_not_idle() -> None:
    waiting = Waiting(1)
    busy, other = Closable("a"), Closable("a")
    waiting.add(busy)
    waiting.remove(busy)
    waiting.remove(busy)
    waiting.add(other)
    assert not busy.is_ended
    assert not other.is_ended


def test_when_the_worker_stops_idle_connections_end() -> None:
    waiting = Waiting(9)
    idle, busy = Closable("a"), Closable("a")
    busy.is_idle = False
    waiting.add(idle)
    waiting.add(busy)
    waiting.end_idle()
    assert (idle.is_ended, busy.is_ended) == (True, False)


def test_a_connection_is_idle_if_it_has_sent_nothing_for_a_while(ends: Ends, monkeypatch) -> None:
    connection, client = ends
    now = time.monotonic()
    monkeypatch.setattr(gunicorn_worker.time, "monotonic", lambda: now)
    connection.expect_head(60)
    assert not connection.is_idle, "its client may be sending the next request"
    now += gunicorn_worker.IDLE_SECONDS
    assert connection.is_idle
    client.sendall(b"POST")
    connection.recv(10)
    assert not connection.is_idle


def test_a_head_that_drips_does_not_win_time_by_it(ends: Ends, monkeypatch) -> None:
    monkeypatch.setattr(gunicorn_worker, "HEAD_SECONDS", 0.3)
    connection, client = ends
    connection.expect_head(0.3)
    began = time.monotonic()

    def drip() -> None:
        while True:
            client.sendall(b"a")
            connection.recv(10)
            sleep(0.01)

    with pytest.raises(TimeoutError):
        drip()
    assert time.monotonic() - began < 3
    assert connection.has_begun


def test_a_head_beyond_the_limit_is_refused_and_a_body_is_not(ends: Ends) -> None:
    connection, client = ends
    client.sendall(b"a" * (gunicorn_worker.MAX_HEAD_BYTES + 10))
    with pytest.raises(LimitRequestHeaders):
        b"".join(iter(lambda: connection.recv(8192), b""))
    connection.has_head()
    for _ in range(20):
        client.sendall(b"a" * 8000)
        assert len(connection.recv(8000)) == 8000


def test_an_unread_response_is_dropped_and_a_slowly_read_one_is_not(ends: Ends, monkeypatch) -> None:
    monkeypatch.setattr(gunicorn_worker, "STALLED_SECONDS", 0.4)
    connection, client = ends
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connection.has_head()
    answer = b"a" * 2_000_000

    def read_slowly() -> int:
        count = 0
        while chunk := client.recv(200_000):
            count += len(chunk)
            sleep(0.05)
        return count

    reading = spawn(read_slowly)
    connection.sendall(answer)
    connection.shutdown(socket.SHUT_WR)
    assert reading.get() == len(answer)
    other, unread = socket.socketpair()
    with closing(Connection(other, "a")) as stalled, closing(unread):
        stalled.has_head()
        with pytest.raises(TimeoutError):
            stalled.sendall(answer)


def test_received_bytes_of_a_closed_connection_are_still_read(ends: Ends) -> None:
    connection, client = ends
    client.sendall(b"GET / HTTP/1.1\r\n")
    connection.read_no_more()
    assert connection.recv(100) == b"GET / HTTP/1.1\r\n"
    assert connection.recv(100) == b""


def test_chunks_are_returned_as_they_arrive() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"abcdef"
        yield b"gh"
        raise ValueError("broke off")

    body = Chunks(chunks())
    assert [body.read(4), body.read(4), body.read(4)] == [b"abcd", b"ef", b"gh"]
    assert not body.failed
    with pytest.raises(ValueError, match="broke off"):
        body.read(4)
    assert body.failed
    assert Chunks(iter(())).read(4) == b""


@pytest.mark.parametrize(
    "error, status, reason",
    [
        (LimitRequestLine(9000, 8190), "414", "long_url"),
        (LimitRequestHeaders("large"), "431", "large_head"),
        (UnsupportedTransferCoding("odd"), "501", "transfer_coding"),
        (InvalidHeader("a secret"), "400", "malformed"),
        (TimeoutError(), "408", "slow_head"),
        (RuntimeError("a secret"), "500", "unexpected"),
    ],
)
def test_a_refusal_has_a_status_and_a_reason_and_none_of_the_clients_words(
    error: Exception, status: str, reason: str
) -> None:
    refusal = refusal_of(error)
    assert refusal.status.startswith(status)
    assert refusal.reason == reason
    assert "secret" not in refusal.status


def test_a_refusal_guards_itself_as_every_answer_does() -> None:
    assert "".join(f"{name}: {value}\r\n" for name, value in errors.GUARDING) == GUARDING
