"""A running service, and verbs to talk with it. System tests import nothing of the program: HTTP, SQL, command line."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import psycopg
import pytest

from tests.conftest import Cluster, free_port, wait_until

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "plum-outcomes"
FORM = "application/x-www-form-urlencoded"
STOP_SECONDS = 15  # the contract's
REVOKED_SECONDS = 5  # likewise
PHONE = "16175551234"

T = TypeVar("T")


def together(count: int, act: Callable[[int], T]) -> list[T]:
    """What `act(0)`, `act(1)`, … gave, all let go at the same moment."""
    barrier, results, failures = threading.Barrier(count), [None] * count, []

    def run(number: int) -> None:
        try:
            barrier.wait()
            results[number] = act(number)
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    return results


def dev_body(**changes: object) -> bytes:
    """A callback of DEV; a change to None leaves the field out."""
    fields: dict[str, object] = {
        "phone_number": PHONE,
        "message_reference": "appt-42",
        "call_id": "112850593",
        "result": "Completed",
        "callee_type": "voice",
        "attempts": "1",
        "last_attempt_timestamp": "Mon, 19 Jul 2004 13:46:03 -0400",
        "duration": "37",
    }
    return urlencode({name: value for name, value in (fields | changes).items() if value is not None}).encode()


def strict_json(text: bytes) -> Any:
    """What the JSON says; Python's NaN and Infinity are none."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text.decode(), parse_constant=refuse)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: HTTPMessage
    body: bytes

    def json(self) -> Any:
        return strict_json(self.body)

    def assert_completed(self) -> Answer:
        assert (self.status, self.body) == (200, b"completed"), self
        assert self.headers["Content-Type"].split(";")[0] == "text/plain"
        return self

    def assert_problem(self, status: int, *named: str) -> Answer:
        """RFC 9457, whose `errors` name exactly these parameters."""
        assert self.status == status, self.body
        assert self.headers["Content-Type"].split(";")[0] == "application/problem+json"
        problem = self.json()
        assert problem["status"] == status
        assert problem["title"]
        assert sorted(problem.get("errors", {})) == sorted(named)
        return self


@dataclass
class Installation:
    """A store and its settings, worked by the command line."""

    database_url: str
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith("PLUM_")}
        ours = {"PLUM_DATABASE_URL": self.database_url, "PLUM_SPOOL_DIR": str(self.directory / "spool")}
        return others | ours | self.settings

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(PROGRAM), *arguments]
        return subprocess.run(
            command,
            env=self.environment(),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ok(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def assert_one_line(self, *arguments: str, says: str, hides: str = "Traceback") -> str:
        """It fails, and tells in one line what to do: a line that fits the pattern `says`."""
        done = self.run(*arguments)
        lines = done.stderr.splitlines()
        assert done.returncode != 0, done.stdout
        assert len(lines) == 1, done.stderr
        assert re.search(says, lines[0], re.IGNORECASE), lines[0]
        assert "Traceback" not in lines[0]
        assert hides not in lines[0]
        return lines[0]

    @contextmanager
    def sql(self) -> Iterator[Any]:
        if self.database_url.startswith("sqlite"):
            with closing(sqlite3.connect(self.database_url.removeprefix("sqlite:///"))) as connection:
                yield connection
                connection.commit()
        else:
            with psycopg.connect(self.database_url.replace("+psycopg", "")) as connection:
                yield connection

    def everything_stored(self) -> str:
        """All rows of all tables as text."""
        sqlite = "SELECT name FROM sqlite_master WHERE type = 'table'"
        postgresql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        with self.sql() as connection:
            tables = connection.execute(sqlite if self.database_url.startswith("sqlite") else postgresql).fetchall()
            return "\n".join(str(connection.execute(f'SELECT * FROM "{table}"').fetchall()) for (table,) in tables)


@dataclass
class Service(Installation):
    """`plum-outcomes serve` in a process group of its own."""

    port: int = field(default_factory=free_port)
    secrets: set[str] = field(default_factory=lambda: {PHONE, PHONE[1:]})  # what no log may hold
    process: subprocess.Popen[bytes] | None = None
    token: str = ""

    def prepare(self) -> Service:
        self.ok("migrate")
        self.token = self.new_token("analyst", "reveal")
        return self

    def start(self, *options: str) -> Service:
        self.settings["PLUM_PUBLIC_URL"] = f"http://127.0.0.1:{self.port}"
        command = [str(PROGRAM), "serve", "--bind", f"127.0.0.1:{self.port}", "--workers", "2", *options]
        with (self.directory / "stdout").open("wb") as out, (self.directory / "stderr").open("ab") as err:
            self.process = subprocess.Popen(
                command, env=self.environment(), cwd=self.directory, stdout=out, stderr=err, start_new_session=True
            )
        wait_until(self._ready, 30)
        return self

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.stderr
        try:
            return self.request("GET", "/readyz").status == 200 and len(self.workers()) == 2
        except OSError:
            return False

    def stop(self) -> None:
        """SIGTERM ends all of it in time, and nothing secret was logged."""
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(STOP_SECONDS) == 0, self.stderr
            assert self._group() == []
        finally:
            if self._group():
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        assert [secret for secret in self.secrets if secret in self.stderr] == []
        assert "Traceback" not in self.stderr

    @property
    def stdout(self) -> str:
        return (self.directory / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.directory / "stderr").read_text()

    def _group(self) -> list[int]:
        """The living processes of the service's group."""
        listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True)
        rows = [line.split() for line in listed.stdout.splitlines()]
        return [int(pid) for pid, group, state in rows if int(group) == self.process.pid and state[0] != "Z"]

    def workers(self) -> list[int]:
        return [pid for pid in self._group() if pid != self.process.pid]

    @contextmanager
    def only(self, worker: int) -> Iterator[None]:
        """The other workers stand still, so that this one answers."""
        others = [pid for pid in self.workers() if pid != worker]
        try:
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
                wait_until(lambda pid=pid: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
            yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    # --- making senders and tokens

    def new_token(self, name: str, scope: str) -> str:
        token: str = self.json("token", "add", name, "--scope", scope)["token"]
        self.secrets.add(token)
        return token

    def sender(self, name: str, product: str = "auto") -> Sender:
        made = self.json("integration", "add", name, "--product", product)
        return Sender(self, name, self.know(made["key"]), made["result_url"])

    def know(self, key: str) -> str:
        self.secrets.add(key)
        return key

    # --- talking HTTP

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request over a connection of its own."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            return exchange(connection, method, path, body, headers)

    def through_each_worker(self, method: str, path: str, body: bytes | None = None, **headers: str) -> list[Answer]:
        answers = []
        for worker in self.workers():
            with self.only(worker):
                answers.append(self.request(method, path, body, headers))
        assert len(answers) == 2
        return answers

    def assert_everywhere_soon(self, status: int, path: str, **headers: str) -> None:
        """All workers answer so within the time that the contract gives them."""

        def answered() -> bool:
            return {answer.status for answer in self.through_each_worker("GET", path, **headers)} == {status}

        wait_until(answered, REVOKED_SECONDS)

    def get(self, path: str, token: str | None = None, **filters: object) -> Answer:
        """A question to the API, by the `reveal` token unless another is given."""
        query = f"?{urlencode(filters, doseq=True)}" if filters else ""
        path = path if path.startswith("/api/") else f"/api/v1/{path}"
        return self.request("GET", path + query, None, {"Authorization": f"Bearer {token or self.token}"})

    def pages(self, path: str, direction: str = "next", **filters: object) -> Iterator[dict[str, Any]]:
        """This page and those that follow in the direction, at most 1000 of them."""
        for _ in range(1000):
            answer = self.get(path, **filters)
            assert answer.status == 200, answer.body
            page = answer.json()
            yield page
            if page[direction] is None:
                return
            parts = urlsplit(page[direction])
            path, filters = parts.path, dict(parse_qsl(parts.query, keep_blank_values=True))
        raise AssertionError("the pages never end")

    def records(self, path: str, **filters: object) -> list[dict[str, Any]]:
        return [record for page in self.pages(path, **({"limit": 1000} | filters)) for record in page["data"]]


def exchange(
    connection: HTTPConnection,
    method: str,
    path: str,
    body: bytes | Iterator[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return Answer(answer.status, answer.headers, answer.read())


@dataclass
class Sender:
    """An integration, and Plum posting to its `result_url`."""

    service: Service
    name: str
    key: str
    result_url: str

    @property
    def path(self) -> str:
        return f"/result/{self.key}"

    def post(self, body: bytes, content_type: str | None = FORM, below: str = "", **headers: str) -> Answer:
        """`below` is what follows the key in the URL."""
        named = {"Content-Type": content_type} if content_type else {}
        return self.service.request("POST", self.path + below, body, named | headers)

    def assert_accepted(
        self, body: bytes, content_type: str | None = FORM, below: str = "", verdict: str = "applied"
    ) -> str:
        """Acknowledged with this verdict; the delivery's id."""
        answer = self.post(body, content_type, below).assert_completed()
        assert answer.headers["X-Delivery-Verdict"] == verdict
        return answer.headers["X-Delivery-Id"]

    def post_json(self, value: object, below: str = "") -> Answer:
        return self.post(json.dumps(value).encode(), "application/json", below)

    def outcomes(self, **filters: object) -> list[dict[str, Any]]:
        return self.service.records("outcomes", integration=self.name, **filters)

    def outcome(self, **filters: object) -> dict[str, Any]:
        [outcome] = self.outcomes(**filters)
        return outcome

    def outcome_of(self, reference: str) -> dict[str, Any]:
        """The one outcome of the reference as decoded (it may hold commas and what not)."""
        found = [outcome for outcome in self.outcomes() if outcome["reference"] == reference]
        assert len(found) == 1
        return found[0]

    def deliveries(self, **filters: object) -> list[dict[str, Any]]:
        return self.service.records("deliveries", integration=self.name, **filters)

    def body_of(self, delivery: str) -> bytes:
        answer = self.service.get(f"deliveries/{quote(delivery)}/body")
        assert answer.status == 200
        return answer.body

    def assert_nothing_stored(self) -> None:
        assert self.deliveries() == []
        assert self.outcomes() == []


# --- fixtures. Here a store lasts as long as its file of tests: starting real processes takes seconds.


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def database_url(engine_name: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    if engine_name == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('store') / 'outcomes.db'}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.create()


@pytest.fixture(scope="module")
def service(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers on each engine in turn."""
    made = Service(database_url, tmp_path_factory.mktemp("service")).prepare()
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def sender(service: Service, request: pytest.FixtureRequest) -> Sender:
    """A sender that no other test knows."""
    return new_sender(service, request)


@pytest.fixture(scope="module")
def shared_sender(service: Service) -> Sender:
    return service.sender("shared")


def new_sender(service: Service, request: pytest.FixtureRequest, product: str = "auto") -> Sender:
    name = re.sub(r"\W+", "-", request.node.name)[-50:].strip("-")
    return service.sender(f"{name}-{time.monotonic_ns() % 10**9}", product)


def flat(lists: Sequence[Sequence[T]]) -> list[T]:
    return [item for inner in lists for item in inner]
