"""Senders that are slow, and senders that are too many."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import pytest

from tests.system.conftest import Sender, Service, dev_body
from tests.system.faults import ACK_SECONDS, Load, Post, assert_nothing_lost_or_doubled, beside, processes, running

SLOW = 500
SLOW_SECONDS = 4
BUSY = 512
BUSY_SECONDS = 4
P99_SECONDS = 10  # the contract's, as is what follows
RESIDENT_BYTES = 600 << 20


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    with running(f"sqlite:///{tmp_path / 'outcomes.db'}", tmp_path) as made:
        yield made


@contextmanager
def dripping(sender: Sender, count: int) -> Iterator[list[int]]:
    """Connections that send a byte a second, every other within the head. Gives how many still do."""
    head = f"POST {sender.path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n"
    senders = [socket.create_connection(("127.0.0.1", sender.service.port), timeout=10) for _ in range(count)]
    alive = [count]
    stop = threading.Event()
    for number, one in enumerate(senders):
        one.sendall(f"{head}{'X-Slow: ' if number % 2 else chr(13) + chr(10)}".encode())

    def drip() -> None:
        while not stop.wait(1):
            dripped = 0
            for one in senders:
                with suppress(OSError):
                    one.sendall(b"a")
                    dripped += 1
            alive.append(dripped)

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield alive
    finally:
        stop.set()
        thread.join()
        for one in senders:
            one.close()


def test_slow_senders_leave_others_alone(sender: Sender) -> None:
    with (
        dripping(sender, SLOW) as alive,
        Load(sender, "kept", threads=4, pause=0.05) as kept,
        Load(sender, "single", threads=4, pause=0.05, keep_alive=False) as single,
    ):
        time.sleep(SLOW_SECONDS)
    assert min(alive) > SLOW / 2, "the slow ones were sent away, so nothing is shown"
    posts = [*kept.posts, *single.posts]
    assert len(posts) > 30
    assert [post for post in posts if post.status != 200] == []
    assert median(post.seconds for post in posts) < ACK_SECONDS
    assert_nothing_lost_or_doubled(sender, posts)


async def _busy(sender: Sender, name: str, deadline: float, posts: list[Post]) -> None:
    """One connection that posts as fast as it is answered; opened again where it was closed."""
    number = 0
    reader = writer = None
    while time.monotonic() < deadline:
        body = (f"{name}-{number}", "1")
        number += 1
        sent = dev_body(call_id=body[0], attempts=body[1])
        started = time.monotonic()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", sender.service.port)
            head = f"POST {sender.path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            writer.write(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
            lines = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode().split("\r\n")
            headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines[1:])}
            await reader.readexactly(int(headers["content-length"]))
        except (OSError, EOFError, TimeoutError) as failure:
            posts.append(Post(body, started, time.monotonic() - started, failure=repr(failure)))
            headers = {"connection": "close"}
        else:
            taken = time.monotonic() - started
            identity, verdict = headers.get("x-delivery-id"), headers.get("x-delivery-verdict")
            status = int(lines[0].split()[1])
            posts.append(Post(body, started, taken, status, identity, verdict, headers.get("retry-after")))
        if headers.get("connection", "").lower() == "close" and writer is not None:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _all_busy(sender: Sender, posts: list[Post]) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    await asyncio.gather(*(_busy(sender, f"busy-{number}", deadline, posts) for number in range(BUSY)))


def resident(service: Service, *, with_copy: bool = True) -> int:
    """Bytes of its processes, what they share counted once. That of the analytical copy has a setting of its own."""
    lines = []
    for pid in processes(service) - (set() if with_copy else {beside(service, "analytics")}):
        with suppress(OSError):
            lines += Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10


def test_more_connections_than_can_be_served_get_200_or_503(sender: Sender) -> None:
    posts: list[Post] = []
    load = threading.Thread(target=asyncio.run, args=(_all_busy(sender, posts),))
    load.start()
    most = 0
    while load.is_alive():
        most = max(most, resident(sender.service))
        load.join(0.5)
    statuses = Counter(post.status for post in posts)
    assert statuses[200] > BUSY
    assert set(statuses) <= {200, 503}, statuses
    assert [post for post in posts if post.status == 503 and not post.retry_after] == []
    assert sorted(post.seconds for post in posts)[int(len(posts) * 0.99)] < P99_SECONDS
    assert 0 < most < RESIDENT_BYTES
    assert len({post.body[0].rsplit("-", 1)[0] for post in posts if post.status == 200}) > BUSY / 2
    assert_nothing_lost_or_doubled(sender, [post for post in posts if post.status == 200])
