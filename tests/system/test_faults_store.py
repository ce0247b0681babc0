"""The store stops, freezes, is locked or loses a commit's answer: acknowledged all the same, and counted once."""

from __future__ import annotations

import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from statistics import median

import pytest

from tests.conftest import Cluster, frozen, wait_until
from tests.system.conftest import Sender, Service, dev_body
from tests.system.faults import (
    ACK_SECONDS,
    UNDER_WAY_SECONDS,
    WAITED_SECONDS,
    Load,
    Post,
    Watch,
    assert_nothing_lost_or_doubled,
    kill,
    metric,
    running,
    stopped,
    total,
)

STOPPED_SECONDS = 10
FROZEN_SECONDS = 12
LOCKED_SECONDS = 8
NOTICED_SECONDS = 6  # by then a worker under load has met a store that hangs
READY_REFUSED_SECONDS, READY_HANGING_SECONDS = 4, 6  # the contract's
DRAIN_BEGINS_SECONDS = 5 + 5  # the contract's, and time to see it beside other tests
PACE = 0.03
SPOOLED = "spooled"
DRAINED = "plum_spool_drained_total"


@pytest.fixture
def sender(own: Cluster, tmp_path: Path) -> Iterator[Sender]:
    with running(own.create(), tmp_path) as made:
        yield made


def slow(posts: list[Post], seconds: float) -> list[Post]:
    assert posts
    return [post for post in posts if post.status is None or post.seconds >= seconds]


def assert_counted(service: Service, deliveries: int, load: Load) -> None:
    """Each delivery once, when it was durable, whether it went through the spool or not."""
    counted = metric(service, "plum_deliveries_total")
    assert abs(counted - deliveries) <= len(load.unanswered), (counted, deliveries)


def test_stopped_under_load(own: Cluster, sender: Sender) -> None:
    service = sender.service
    before = metric(service, DRAINED)
    with Watch(service, "/livez", "/readyz", "/metrics") as watch, Load(sender, "stopped", pause=PACE) as load:
        load.wait_for(100)
        with stopped(own):
            away = time.monotonic()
            time.sleep(STOPPED_SECONDS)
            back = time.monotonic()
        wait_until(lambda: metric(service, DRAINED) > before, DRAIN_BEGINS_SECONDS)
        load.wait_for(100)
    meanwhile = load.begun(away, back)
    answered = [post for post in meanwhile if post.status == 200]
    assert len(answered) >= 0.95 * len(meanwhile) > 0
    assert SPOOLED in {post.verdict for post in answered}
    assert {post.status for post in load.posts} <= {200, 503, None}
    assert_counted(service, len(assert_nothing_lost_or_doubled(sender, load.acknowledged)), load)

    assert {look.status for look in watch.of("/livez")} == {200}
    ready = watch.of("/readyz", away, back - READY_REFUSED_SECONDS)
    assert {look.status for look in ready} == {200}
    assert all("store: ok" not in look.text and "store" in look.text for look in ready)
    assert max(look.seconds for look in ready) < READY_REFUSED_SECONDS
    told = watch.of("/metrics", away + 1, back)
    assert {look.status for look in told} == {200}
    assert max(total(look.text, "plum_breaker_open") for look in told) >= 1
    assert max(total(look.text, "plum_spool_deliveries") for look in told) > 0
    assert max(total(look.text, "plum_spool_bytes") for look in told) > 0
    assert max(total(look.text, "plum_spool_oldest_seconds") for look in told) > STOPPED_SECONDS / 2
    wait_until(lambda: metric(service, "plum_breaker_open") == 0)
    assert "store: ok" in service.request("GET", "/readyz").body.decode()


def test_frozen_under_load(own: Cluster, sender: Sender) -> None:
    service = sender.service
    before = metric(service, DRAINED)
    with Watch(service, "/livez", "/readyz", "/metrics") as watch, Load(sender, "frozen", pause=PACE) as load:
        load.wait_for(100)
        with frozen(own.pids()):
            since = time.monotonic()
            time.sleep(FROZEN_SECONDS)
            until = time.monotonic()
        wait_until(lambda: metric(service, DRAINED) > before, DRAIN_BEGINS_SECONDS)
        load.wait_for(100)
    assert {post.status for post in load.posts} == {200}
    assert slow(load.posts, UNDER_WAY_SECONDS) == []
    later = load.begun(since + NOTICED_SECONDS, until)
    assert slow(later, WAITED_SECONDS) == []
    assert median(post.seconds for post in later) < ACK_SECONDS
    assert {post.verdict for post in later} == {SPOOLED}
    assert_counted(service, len(assert_nothing_lost_or_doubled(sender, load.acknowledged)), load)

    assert {look.status for look in watch.of("/livez")} == {200}
    assert max(look.seconds for look in watch.of("/livez")) < WAITED_SECONDS
    # One that began before the freeze may answer others, too.
    ready = watch.of("/readyz", since + ACK_SECONDS, until - READY_HANGING_SECONDS)
    assert {look.status for look in ready} == {200}
    assert all("store: ok" not in look.text and "store" in look.text for look in ready)
    assert max(look.seconds for look in ready) < READY_HANGING_SECONDS
    assert max(total(look.text, "plum_breaker_open") for look in watch.of("/metrics", since, until)) >= 1


def test_killed_while_the_store_is_away_then_started_without_it(own: Cluster, sender: Sender) -> None:
    service = sender.service
    with Load(sender, "before", pause=PACE) as before:
        before.wait_for(50)
    with stopped(own):
        with Load(sender, "away", pause=PACE) as away:
            away.wait_for(200)
            kill(service)
        assert SPOOLED in {post.verdict for post in away.acknowledged}
        service.start()
        ready = service.request("GET", "/readyz").body.decode()
        assert "store" in ready
        assert "store: ok" not in ready
        with Load(sender, "started", pause=PACE) as started:
            started.wait_for(100)
        assert {(post.status, post.verdict) for post in started.posts} == {(200, SPOOLED)}
        for method, body in (("POST", dev_body(call_id="unknown")), ("GET", None)):
            for answer in service.through_each_worker(method, "/result/nobody-knows-this-key", body):
                assert answer.status == 503
                assert answer.headers["Retry-After"]
        assert {answer.status for answer in service.through_each_worker("GET", sender.path)} == {200}
    assert_nothing_lost_or_doubled(sender, [*before.acknowledged, *away.acknowledged, *started.acknowledged])
    wait_until(lambda: service.request("GET", "/result/nobody-knows-this-key").status == 404)


def test_a_torn_file_and_garbage_in_the_spool_block_nothing(own: Cluster, sender: Sender) -> None:
    service = sender.service
    spool = service.directory / "spool"
    with Load(sender, "before", pause=PACE) as before:
        before.wait_for(50)
    usual = set(spool.rglob("*"))
    with stopped(own):
        with Load(sender, "away", pause=PACE) as away:
            away.wait_for(100)
        waiting = sorted(
            path for path in set(spool.rglob("*")) - usual if path.is_file() and path.stat().st_size > 50
        )
        torn, garbled = waiting[0], waiting[-1]
        # What the disk made of copies of them: the deliveries themselves are all there.
        _beside(torn, "0").write_bytes(torn.read_bytes()[:-20])
        _beside(garbled, "1").write_bytes(bytes(range(256)) * 10)
        _beside(garbled, "2").write_bytes(b"")
        (spool / f"garbage{torn.suffix}").write_bytes(b"garbage")
        (spool / "notes.txt").write_text("somebody's")
        for path in ("/livez", "/readyz", "/metrics"):
            for answer in service.through_each_worker("GET", path):
                assert answer.status == 200, path
        sender.assert_accepted(dev_body(call_id="after", attempts="1"), verdict=SPOOLED)
    assert_nothing_lost_or_doubled(sender, [*before.acknowledged, *away.acknowledged])
    assert metric(service, "plum_spool_aside_files") >= 2
    assert "set aside" in service.request("GET", "/readyz").body.decode()
    with Load(sender, "later", pause=PACE) as later:
        later.wait_for(50)
    assert_nothing_lost_or_doubled(sender, later.acknowledged)


def _beside(file: Path, digit: str) -> Path:
    """A name of the same form, whatever that is, that sorts before."""
    return file.with_name(re.sub(r"[1-9].", f"0{digit}", file.name, count=1))


# --- the network loses a commit's answer


class Proxy:
    """Between service and PostgreSQL. Told so, it forwards a COMMIT but keeps the answer to itself."""

    def __init__(self, target: int, *, hangs_up: bool) -> None:
        self.lost = 0
        self._to_lose = 0
        self._target, self._hangs_up = target, hangs_up
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._begin(self._accept)

    def lose(self, count: int) -> None:
        with self._lock:
            self._to_lose += count

    def close(self) -> None:
        with self._lock:
            sockets = [self._listening, *self._sockets]
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in sockets:
            one.close()

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._sockets += [client, server]
                dropped = threading.Event()
                self._begin(self._ask, client, server, dropped)
                self._begin(self._answer, client, server, dropped)

    def _ask(self, client: socket.socket, server: socket.socket, dropped: threading.Event) -> None:
        with suppress(OSError):
            while asked := client.recv(65536):
                with self._lock:
                    if self._to_lose and b"COMMIT" in asked:
                        self._to_lose -= 1
                        self.lost += 1
                        dropped.set()
                server.sendall(asked)
        _hang_up(server)

    def _answer(self, client: socket.socket, server: socket.socket, dropped: threading.Event) -> None:
        with suppress(OSError):
            while answered := server.recv(65536):
                if not dropped.is_set():
                    client.sendall(answered)
                elif self._hangs_up:
                    break
        _hang_up(client)


def _hang_up(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(own: Cluster, *, hangs_up: bool) -> Iterator[tuple[str, Proxy]]:
    proxy = Proxy(own.port, hangs_up=hangs_up)
    try:
        yield own.create().replace(f":{own.port}/", f":{proxy.port}/"), proxy
    finally:
        proxy.close()


@pytest.mark.parametrize("hangs_up", [True, False], ids=["cut", "swallowed"])
def test_the_response_to_a_commit_is_lost(own: Cluster, tmp_path: Path, hangs_up: bool) -> None:
    with proxied(own, hangs_up=hangs_up) as (database_url, proxy), running(database_url, tmp_path) as sender:
        with Load(sender, "lost", pause=PACE) as load:
            load.wait_for(100)
            for _ in range(2):
                lost = proxy.lost
                proxy.lose(3)
                wait_until(lambda lost=lost: proxy.lost >= lost + 3, 30)
                load.wait_for(50)
        assert {post.status for post in load.posts} == {200}
        assert slow(load.posts, UNDER_WAY_SECONDS) == []
        deliveries = assert_nothing_lost_or_doubled(sender, load.acknowledged)
        assert_counted(sender.service, len(deliveries), load)
        through = {delivery.body: delivery.via for delivery in deliveries}
        unsure = [post for post in load.acknowledged if post.verdict == SPOOLED and through[post.body] == "http"]
        assert unsure, "no delivery's commit was lost, so nothing is shown"


# --- somebody else writes to the SQLite file


def test_a_foreign_write_lock_on_sqlite(tmp_path: Path) -> None:
    file = tmp_path / "outcomes.db"
    with running(f"sqlite:///{file}", tmp_path) as sender:
        with Load(sender, "locked", pause=PACE) as load:
            load.wait_for(50)
            with closing(sqlite3.connect(file, timeout=10, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                since = time.monotonic()
                time.sleep(LOCKED_SECONDS)
                until = time.monotonic()
                other.execute("ROLLBACK")
            load.wait_for(50)
        assert {post.status for post in load.posts} == {200}
        assert slow(load.posts, UNDER_WAY_SECONDS) == []
        later = load.begun(since + NOTICED_SECONDS - 1, until)
        assert slow(later, WAITED_SECONDS) == []
        assert median(post.seconds for post in later) < ACK_SECONDS
        deliveries = assert_nothing_lost_or_doubled(sender, load.acknowledged)
        assert_counted(sender.service, len(deliveries), load)
