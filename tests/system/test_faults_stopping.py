"""SIGTERM, SIGHUP and a restart under load: every request that was received is answered."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.system.conftest import STOP_SECONDS, Sender, dev_body
from tests.system.faults import Load, Post, assert_nothing_lost_or_doubled, running, wait_until_gone

RELOADS = 2
HALVES = 6
RECEIVED_SECONDS = 0.5  # a post begun so long before was received
PACE = 0.01


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    with running(f"sqlite:///{tmp_path / 'outcomes.db'}", tmp_path) as made:
        yield made


def assert_stored_is_answered(sender: Sender, posts: list[Post]) -> None:
    """What is stored was received, so it was answered too."""
    deliveries = assert_nothing_lost_or_doubled(sender, [post for post in posts if post.status == 200])
    answered = {post.body for post in posts if post.status is not None}
    assert [delivery.body for delivery in deliveries if delivery.body not in answered] == []


def half_sent(sender: Sender, call: str, stack: ExitStack) -> tuple[socket.socket, bytes]:
    """A post whose head and first half are sent, and the half that is missing."""
    body = dev_body(call_id=call, attempts="1")
    middle = len(body) // 2
    sending = stack.enter_context(socket.create_connection(("127.0.0.1", sender.service.port), timeout=20))
    head = f"POST {sender.path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    sending.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:middle])
    return sending, body[middle:]


def answer_of(sending: socket.socket) -> bytes:
    answer = b""
    while b"completed" not in answer and (more := sending.recv(65536)):
        answer += more
    return answer


def test_sigterm_under_load_answers_what_was_received(sender: Sender) -> None:
    service = sender.service
    with (
        ExitStack() as stack,
        Load(sender, "kept", threads=6, pause=PACE) as kept,
        Load(sender, "single", threads=6, pause=PACE, keep_alive=False) as single,
    ):
        kept.wait_for(100)
        halves = [half_sent(sender, f"half-{number}", stack) for number in range(HALVES)]
        time.sleep(RECEIVED_SECONDS)
        asked = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        for sending, missing in halves:
            sending.sendall(missing)
        answers = [answer_of(sending) for sending, _ in halves]
        wait_until_gone(service, STOP_SECONDS)
        gone = time.monotonic() - asked
    assert gone < STOP_SECONDS
    assert service.process.returncode == 0
    assert [answer for answer in answers if not answer.startswith(b"HTTP/1.1 200")] == []
    posts = [*kept.posts, *single.posts]
    early = [post for post in posts if post.started < asked - RECEIVED_SECONDS]
    assert [post for post in early if post.status != 200] == []
    assert {post.status for post in posts} <= {200, 503, None}
    service.start()
    assert_stored_is_answered(sender, [*posts, *(Post((f"half-{n}", "1"), asked, 0, 408) for n in range(HALVES))])


def test_sigterm_while_commits_wait(tmp_path: Path) -> None:
    """All posts under way at that moment wait for the store; none of them is given up."""
    file = tmp_path / "outcomes.db"
    with running(f"sqlite:///{file}", tmp_path) as sender:
        service = sender.service
        with closing(sqlite3.connect(file, timeout=10, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with Load(sender, "waiting", threads=16, most=16) as load:
                time.sleep(RECEIVED_SECONDS)
                service.process.send_signal(signal.SIGTERM)
                time.sleep(RECEIVED_SECONDS)
                other.execute("ROLLBACK")
                wait_until_gone(service, STOP_SECONDS)
        assert {post.status for post in load.posts} == {200}
        assert len(load.posts) == 16
        service.start()
        assert_nothing_lost_or_doubled(sender, load.acknowledged)


def test_reload_under_load_fails_no_post(sender: Sender) -> None:
    service = sender.service
    with (
        Load(sender, "kept", threads=6, pause=PACE) as kept,
        Load(sender, "single", threads=6, pause=PACE, keep_alive=False) as single,
    ):
        for _ in range(RELOADS):
            kept.wait_for(50)
            before = set(service.workers())
            os.kill(service.process.pid, signal.SIGHUP)
            wait_until(
                lambda before=before: len(service.workers()) == 2 and before.isdisjoint(service.workers()),
                2 * STOP_SECONDS,
            )
        kept.wait_for(50)
    posts = [*kept.posts, *single.posts]
    assert [post for post in posts if post.status != 200] == []
    assert_stored_is_answered(sender, posts)


def test_a_restart_under_load_fails_no_post_where_systemd_listens(sender: Sender) -> None:
    service = sender.service
    service.stop()
    with socket.create_server(("127.0.0.1", service.port), backlog=1000) as service.passed:
        service.start()
        with (
            Load(sender, "kept", threads=6, pause=PACE) as kept,
            Load(sender, "single", threads=6, pause=PACE, keep_alive=False) as single,
        ):
            kept.wait_for(50)
            service.stop()
            time.sleep(1)  # a migration
            service.start()
            kept.wait_for(50)
        posts = [*kept.posts, *single.posts]
        assert [post for post in posts if post.status != 200] == []
        assert_stored_is_answered(sender, posts)
