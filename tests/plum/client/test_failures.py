"""Real sockets that refuse, hang, break off, lead elsewhere: did anything reach Plum's queue?"""

from __future__ import annotations

import logging
import socket
import threading
import traceback

import pytest

from app.plum.client import FateUnknown, NothingQueued, Redirected, Unavailable, WrongCredentials
from app.plum.client.exchange import MAX_ANSWER_BYTES
from tests.plum.client.conftest import PHONE, SECRET, USER, bulk_request, call_request, client, peer, perform

CHANGES = ["queue", "bulk_queue", "cancel"]
STATUS_OK = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"call_details":{"status":"completed"}}'


@pytest.mark.parametrize("call", [*CHANGES, "status"])
def test_a_refused_connection_means_that_nothing_is_queued(call: str, nobody: str) -> None:
    with client("fuse", nobody) as ours, pytest.raises(Unavailable, match=r"not reached.*see base URL") as failure:
        perform(ours, call)
    assert isinstance(failure.value, NothingQueued)


def test_a_host_without_an_address_surely_queues_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with client("fuse", "http://plum.example") as ours, pytest.raises(Unavailable):
        perform(ours, "queue")


def test_a_full_backlog_that_takes_no_connection_surely_queues_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        with client("dev", f"http://127.0.0.1:{address[1]}", seconds=0.3) as ours, pytest.raises(Unavailable):
            perform(ours, "queue")
        for one in waiting:
            one.close()


def hanging(connection: socket.socket) -> None:
    connection.recv(1)  # until the other end gives up


def closing(_: socket.socket) -> None:
    pass


def resetting(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


BROKEN = {
    "hangs": hanging,
    "closes": closing,
    "resets": resetting,
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "half a body": b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"call_id":155761}',
    "half a chunk": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"call_id":155761}',
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "too much": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b" " * (MAX_ANSWER_BYTES + 1),
    "compressed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n\x1f\x8b\x08\x00",
}


@pytest.mark.parametrize("call", CHANGES)
@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_an_incomplete_response_means_an_unknown_fate_and_no_retry(answer: object, call: str) -> None:
    with peer(answer) as plum, client("insight", plum.url, seconds=0.5) as ours:
        with pytest.raises(FateUnknown, match="look there before you do it again") as failure:
            perform(ours, call)
        assert not isinstance(failure.value, NothingQueued)
        assert len(plum.requests) == 1


def test_a_slow_response_has_a_time_limit() -> None:
    gone = threading.Event()

    def dripping(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not gone.wait(0.05):
            try:
                connection.sendall(b" ")
            except OSError:
                return

    with peer(dripping) as plum, client("fuse", plum.url, seconds=0.2) as ours:
        with pytest.raises(FateUnknown, match="in time"):
            perform(ours, "queue")
        gone.set()


def test_a_redirect_is_not_followed_and_names_the_host_to_use() -> None:
    with peer(STATUS_OK) as elsewhere:
        answer = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}/login?{SECRET}\r\nContent-Length: 0\r\n\r\n"
        with peer(answer.encode()) as plum, client("fuse", plum.url) as ours, pytest.raises(Redirected) as failure:
            perform(ours, "status")
        assert f"leads to {elsewhere.url}; point the base URL there" in str(failure.value)
        assert elsewhere.requests == []


# FilterCommand again


def in_turn(*answers: bytes) -> tuple[list[bytes], object]:
    left = list(answers)
    return left, lambda connection: connection.sendall(left.pop(0))


def test_a_request_is_repeated_with_pauses() -> None:
    sleeps: list[float] = []
    unready = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    left, answer = in_turn(b"", unready, STATUS_OK)
    with peer(answer) as plum, client("fuse", plum.url, sleeps=sleeps) as ours:
        assert ours.status("155761").is_final
    assert (left, sleeps) == ([], [1.0, 7.0])


def test_a_request_is_sent_three_times_at_most() -> None:
    with peer(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n") as plum, client("fuse", plum.url) as ours:
        with pytest.raises(Unavailable, match="an answer 500"):
            ours.status("155761")
        assert len(plum.requests) == 3


def test_a_pause_longer_than_half_a_minute_is_left_to_the_caller() -> None:
    answer = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n"
    with peer(answer) as plum, client("fuse", plum.url) as ours:
        with pytest.raises(Unavailable) as failure:
            ours.status("155761")
        assert len(plum.requests) == 1
    assert failure.value.retry_after_seconds == 3600


def test_a_pause_until_a_date_is_understood() -> None:
    head = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: Mon, 05 Jan 2199 12:00:00 GMT\r\n"
    with peer(head + b"Content-Length: 0\r\n\r\n") as plum, client("fuse", plum.url) as ours:
        with pytest.raises(Unavailable) as failure:
            perform(ours, "queue")
        assert len(plum.requests) == 1
    assert failure.value.retry_after_seconds > 10**9


def test_a_clear_response_is_not_requested_again() -> None:
    with peer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n") as plum, client("fuse", plum.url) as ours:
        with pytest.raises(WrongCredentials):
            ours.status("155761")
        assert len(plum.requests) == 1


# Pace


def test_queue_calls_leave_a_fifth_of_a_second_apart_and_questions_at_once() -> None:
    sleeps: list[float] = []
    answer = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"call_id":1,"call_details":{"status":"queued"}}'
    with peer(answer) as plum, client("fuse", plum.url, sleeps=sleeps) as ours:
        for call in ("queue", "status", "queue", "bulk_queue", "cancel"):
            perform(ours, call)
    assert sleeps == pytest.approx([0.2, 0.2, 0.2])


# Secrets


@pytest.mark.parametrize("product", ["dev", "insight", "fuse"])
def test_no_log_repr_or_traceback_contains_secrets_and_numbers(
    product: str, caplog: pytest.LogCaptureFixture, nobody: str
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = [repr(call_request(product)), repr(bulk_request(product))]
    echo = f'<queuecall status="failed"><login>{USER}</login><pin>{SECRET}</pin><p>{PHONE}</p></queuecall>'
    refusal = f"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n{echo}".encode()
    for answer in (b"", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + echo.encode(), refusal):
        with peer(answer) as plum, client(product, plum.url) as ours:
            shown += [failing(ours), repr(ours), repr(vars(ours))]
    with client(product, nobody) as ours:
        shown.append(failing(ours))
    for text in (*shown, caplog.text):
        assert not any(secret in text for secret in (USER, SECRET, PHONE[1:], "5550124", "SECRETKEY"))


def failing(ours: object) -> str:
    try:
        perform(ours, "queue")
    except Exception as failure:  # noqa: BLE001  whatever it is, its traceback is looked at
        return "".join(traceback.format_exception(failure)) + repr(failure)
    return ""
