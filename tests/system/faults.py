"""Load with a memory of every post, ways to break things, and the verb that finds what got lost or was doubled."""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs

from tests.conftest import Cluster, wait_until
from tests.system.conftest import FORM, Sender, Service, command_line, dev_body

DRAIN_SECONDS = 60  # the contract's
ACK_SECONDS = 1.0  # likewise, once a fault is noticed
UNDER_WAY_SECONDS = 15.0  # likewise, for posts that a hanging store meets
# What waits for a store that hangs takes 4 s and more. What does not wait may take longer than the contract's second
# on a machine that runs other tests.
WAITED_SECONDS = 3.5
PATIENCE_SECONDS = 30.0
BETWEEN_LOOKS_SECONDS = 0.25

Body = tuple[str, str]  # call_id and attempts: every body of a load differs


@dataclass(frozen=True)
class Post:
    body: Body
    started: float
    seconds: float
    status: int | None = None  # None: no answer came
    delivery: str | None = None
    verdict: str | None = None
    retry_after: str | None = None
    failure: str = ""


class Background:
    """Threads that run while the block does, and end when told to."""

    _stop: threading.Event
    _threads: list[threading.Thread]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Load(Background):
    """Posts from several threads until left: two deliveries of each call, all bodies different, every post kept."""

    def __init__(
        self,
        sender: Sender,
        name: str,
        *,
        threads: int = 8,
        pause: float = 0.02,
        most: int = 20_000,
        keep_alive: bool = True,
        padding: int = 0,
    ) -> None:
        self.posts: list[Post] = []
        self._sender, self._name = sender, name
        self._pause, self._most, self._keep_alive = pause, most, keep_alive
        self._padding = b"&note=" + b"x" * padding if padding else b""
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def wait_for(self, count: int, seconds: float = 30) -> None:
        """So many more posts were acknowledged."""
        before = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) >= before + count, seconds)

    @property
    def acknowledged(self) -> list[Post]:
        return [post for post in list(self.posts) if post.status == 200]

    @property
    def unanswered(self) -> list[Post]:
        return [post for post in list(self.posts) if post.status is None]

    def begun(self, after: float, before: float) -> list[Post]:
        return [post for post in list(self.posts) if after <= post.started < before]

    def _run(self) -> None:
        with closing(HTTPConnection("127.0.0.1", self._sender.service.port, timeout=PATIENCE_SECONDS)) as connection:
            while not self._stop.is_set():
                number = next(self._numbers)
                if number >= self._most:
                    return
                post = self._post(connection, (f"{self._name}-{number // 2}", str(number % 2 + 1)))
                self.posts.append(post)
                if post.status is None or not self._keep_alive:
                    connection.close()
                self._stop.wait(self._pause if post.status else max(self._pause, 0.05))

    def _post(self, connection: HTTPConnection, body: Body) -> Post:
        sent = dev_body(call_id=body[0], attempts=body[1]) + self._padding
        started = time.monotonic()
        try:
            connection.request("POST", self._sender.path, sent, {"Content-Type": FORM})
            answer = connection.getresponse()
            answer.read()
        except (OSError, HTTPException) as failure:
            return Post(body, started, time.monotonic() - started, failure=repr(failure))
        return Post(
            body,
            started,
            time.monotonic() - started,
            answer.status,
            answer.headers["X-Delivery-Id"],
            answer.headers["X-Delivery-Verdict"],
            answer.headers["Retry-After"],
        )


# --- services


@contextmanager
def running(database_url: str, directory: Path, spool: Path | None = None, worker_count: int = 2) -> Iterator[Sender]:
    """A service with one sender whose key it knows; at the end it is stopped, which has to go well."""
    (directory / "tmp").mkdir()
    service = Service(database_url, directory, {"TMPDIR": str(directory / "tmp")}, worker_count)
    if spool:
        service.settings["PLUM_SPOOL_DIR"] = str(spool)
    sender = service.prepare().one
    try:
        service.start()
        service.through_each_worker("GET", sender.path)
        yield sender
        service.stop()
    finally:
        if service.process and processes(service):
            kill(service)


def kill(service: Service) -> None:
    """kill -9 of all its processes at once."""
    os.killpg(service.process.pid, signal.SIGKILL)
    service.process.wait()
    wait_until(lambda: not processes(service))


def processes(service: Service) -> set[int]:
    """All that live of it."""
    return set(service._group())


def beside_workers(service: Service) -> set[int]:
    """Those that serve no web requests, and did not start the others. One that is ending has no command line left."""
    others = processes(service) - {service.process.pid, *service.workers()}
    return {pid for pid in others if command_line(pid)}


def beside(service: Service, name: str) -> int | None:
    """The one that runs this command beside the workers, where there is one."""
    found = [pid for pid in beside_workers(service) if name.encode() in command_line(pid).split(b"\0")]
    return found[0] if len(found) == 1 else None


def wait_until_gone(service: Service, seconds: float) -> None:
    wait_until(lambda: service.process.poll() is not None and not processes(service), seconds)


@contextmanager
def stopped(cluster: Cluster) -> Iterator[None]:
    cluster.stop("immediate")
    try:
        yield
    finally:
        cluster.start()


# --- what the service tells of itself


def metric(service: Service, name: str) -> float:
    """The sum over its labels."""
    return total(service.request("GET", "/metrics").body.decode(), name)


def total(text: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.M))


@dataclass(frozen=True)
class Look:
    path: str
    started: float
    seconds: float
    status: int | None
    text: str


class Watch(Background):
    """Looks at health and metrics all the time until left."""

    def __init__(self, service: Service, *paths: str) -> None:
        self.looks: list[Look] = []
        self._service = service
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(path,)) for path in paths]

    def of(self, path: str, after: float = 0.0, before: float = float("inf")) -> list[Look]:
        found = [look for look in self.looks if look.path == path and after <= look.started < before]
        assert found, f"{path} was never looked at"
        return found

    def _run(self, path: str) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                answer = self._service.request("GET", path)
                status, text = answer.status, answer.body.decode()
            except (OSError, HTTPException) as failure:
                status, text = None, repr(failure)
            self.looks.append(Look(path, started, time.monotonic() - started, status, text))
            self._stop.wait(BETWEEN_LOOKS_SECONDS)


# --- what became of the posts


@dataclass(frozen=True)
class Stored:
    id: str
    outcome: str
    body: Body
    via: str


def stored(sender: Sender) -> list[Stored]:
    """Its deliveries that came from a load."""
    with sender.service.sql() as connection:
        rows = connection.execute(
            f"SELECT id, outcome_id, body, via FROM deliveries WHERE integration = '{sender.name}'"
        ).fetchall()
    found = []
    for identity, outcome, body, via in rows:
        fields = parse_qs(bytes(body).decode())
        if "call_id" in fields:
            sent = (fields["call_id"][0], fields["attempts"][0])
            found.append(Stored(_plain(identity), _plain(outcome), sent, via))
    return found


def assert_drained(service: Service) -> None:
    wait_until(lambda: metric(service, "plum_spool_deliveries") == 0, DRAIN_SECONDS)


def assert_nothing_lost_or_doubled(sender: Sender, acknowledged: Iterable[Post]) -> list[Stored]:
    """Once the spool is drained, each acknowledged delivery is stored once, and each call is one true outcome."""
    assert_drained(sender.service)
    deliveries = stored(sender)
    ids = Counter(delivery.id for delivery in deliveries)
    bodies = {delivery.id: delivery.body for delivery in deliveries}
    posts = list(acknowledged)
    assert posts, "nothing was acknowledged, so nothing is shown"
    assert [post for post in posts if not post.delivery] == []
    assert max(Counter(post.delivery for post in posts).values()) == 1
    missing = [post for post in posts if bodies.get(_plain(post.delivery)) != post.body]
    assert missing == [], f"{len(missing)} of {len(posts)} acknowledged are missing"
    assert {identity: times for identity, times in ids.items() if times > 1} == {}
    times = Counter(delivery.body for delivery in deliveries)
    assert {body: count for body, count in times.items() if count > 1} == {}, "posted once, stored more than once"
    _assert_outcomes_true(sender, deliveries)
    return deliveries


def _assert_outcomes_true(sender: Sender, deliveries: list[Stored]) -> None:
    expected: dict[str, list[Stored]] = defaultdict(list)
    for delivery in deliveries:
        expected[delivery.body[0]].append(delivery)
    with sender.service.sql() as connection:
        rows = connection.execute(
            f"SELECT id, call_id, deliveries, attempts FROM outcomes WHERE integration = '{sender.name}'"
        ).fetchall()
    assert {call: times for call, times in Counter(row[1] for row in rows).items() if times > 1} == {}
    found = {call: ({_plain(identity)}, count, attempts) for identity, call, count, attempts in rows}
    should = {
        call: ({one.outcome for one in group}, len(group), max(int(one.body[1]) for one in group))
        for call, group in expected.items()
    }
    wrong = {
        call: (found.get(call), should.get(call)) for call in found | should if found.get(call) != should.get(call)
    }
    assert wrong == {}, f"{len(wrong)} outcomes are not what their deliveries say"


def _plain(identity: object) -> str:
    """An id as 32 digits, however the engine or a header writes it."""
    return str(identity).replace("-", "")
