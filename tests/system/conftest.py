"""A running service, and verbs to talk with it by HTTP, SQL and command line; nothing of the program is imported."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from uuid import UUID

import psycopg
import pytest
from playwright.sync_api import Browser

from tests.conftest import Cluster, free_port, frozen, postgresql_binaries, wait_until

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "plum-outcomes"
FORM = "application/x-www-form-urlencoded"
STOP_SECONDS = 15  # the contract's
REVOKED_SECONDS = 5  # likewise
PHONE = "16175551234"
ENGINES = ["sqlite", "postgresql"]
SCOPES = ["read", "reveal", "admin"]  # and the names of the tokens that each service has

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


def passing(listening: socket.socket, command: list[str]) -> list[str]:
    """The command that executes this one with the socket, as systemd does."""
    program = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); "
        "os.execve(sys.argv[2], sys.argv[2:], os.environ | {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'})"
    )
    return [sys.executable, "-c", program, str(listening.fileno()), *command]


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

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(PROGRAM), *arguments]
        return subprocess.run(
            command,
            env=self.environment(),
            cwd=self.directory,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ok(self, *arguments: str, stdin: str | None = None) -> str:
        done = self.run(*arguments, stdin=stdin)
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
            with closing(sqlite3.connect(self._file)) as connection:
                yield connection
                connection.commit()
        else:
            with psycopg.connect(self.database_url.replace("+psycopg", "")) as connection:
                yield connection

    def dumped(self) -> bytes:
        """The store that nobody uses: SQLite's file, or statements that make PostgreSQL's tables."""
        if self.database_url.startswith("sqlite"):
            return self._file.read_bytes()
        url = self.database_url.replace("+psycopg", "")
        command = [postgresql_binaries() / "pg_dump", "--no-owner", "--inserts", url]
        lines = subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
        return b"\n".join(line for line in lines if not line.startswith(b"\\"))  # without what psql alone reads

    def restore(self, dumped: bytes) -> None:
        if self.database_url.startswith("sqlite"):
            self._file.touch(0o600)
            self._file.write_bytes(dumped)
        else:
            with self.sql() as connection:
                connection.execute(dumped)

    @property
    def _file(self) -> Path:
        return Path(self.database_url.removeprefix("sqlite:///"))

    def tell_journal(self, connection: Any, integration: str) -> None:
        """As all that changes outcomes does: in the same transaction, of all that the integration has."""
        note = "INSERT INTO changes VALUES (pg_current_xact_id()::text::bigint, now(), %s)"
        if self.database_url.startswith("sqlite"):
            moment = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
            note = f"INSERT INTO changes (changed_at, outcome_ids) VALUES ({moment}, ?)"
        found = connection.execute(f"SELECT id FROM outcomes WHERE integration = '{integration}'").fetchall()
        if found:
            connection.execute(note, (b"".join(UUID(str(key)).bytes for (key,) in found),))

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

    worker_count: int = 2
    port: int = field(default_factory=free_port)
    secrets: set[str] = field(default_factory=lambda: {PHONE, PHONE[1:]})  # what no log may hold
    passed: socket.socket | None = None  # listens already; the service gets it as from systemd
    process: subprocess.Popen[bytes] | None = None
    read_token: str = ""
    token: str = ""  # with the scope `reveal`
    admin_token: str = ""
    one: Sender | None = None

    def prepare(self) -> Service:
        """Make the store, with a token of each scope and the sender `one`."""
        template = _template(self)
        self.read_token, self.token, self.admin_token = (template.tokens[scope] for scope in SCOPES)
        self.secrets |= {*template.tokens.values(), template.key}
        self.one = Sender(self, "one", template.key, f"http://127.0.0.1:{self.port}/result/{template.key}")
        return self

    def start(self, *options: str, is_public: bool = True) -> Service:
        """Under an address for Plum, where it is public."""
        self.settings.pop("PLUM_PUBLIC_URL", None)
        self.settings |= {"PLUM_PUBLIC_URL": f"http://127.0.0.1:{self.port}"} if is_public else {}
        bind, workers = f"127.0.0.1:{self.port}", str(self.worker_count)
        command = [str(PROGRAM), "serve", "--bind", bind, "--workers", workers, *options]
        if self.passed:
            command = passing(self.passed, command)
        with (self.directory / "stdout").open("wb") as out, (self.directory / "stderr").open("ab") as err:
            self.process = subprocess.Popen(
                command,
                env=self.environment(),
                cwd=self.directory,
                stdout=out,
                stderr=err,
                start_new_session=True,
                pass_fds=[self.passed.fileno()] if self.passed else [],
            )
        wait_until(self._ready, 30)
        return self

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.stderr
        try:
            return self.request("GET", "/readyz").status == 200 and len(self.workers()) == self.worker_count
        except OSError:
            return False

    def stop(self) -> None:
        """SIGTERM ends all of it in time, and nothing secret was logged."""
        self.process.send_signal(signal.SIGTERM)
        try:
            wait_until(lambda: self.process.poll() is not None and not self._group(), STOP_SECONDS)
        finally:
            if self._group():
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        assert self.process.returncode == 0, self.stderr
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
        pids = (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
        return [pid for pid in pids if _group_of(pid) == self.process.pid]

    def workers(self) -> list[int]:
        """The web workers: forks of the one that was started, whatever else runs beside them."""
        first = command_line(self.process.pid)
        return [pid for pid in self._group() if pid != self.process.pid and command_line(pid) == first]

    def wait_for_workers(self, count: int, without: int) -> None:
        """So many again, one having died."""

        def replaced() -> bool:
            living = self.workers()
            return len(living) == count and without not in living

        wait_until(replaced, 30)
        self.through_each_worker("GET", "/livez")

    @contextmanager
    def only(self, worker: int) -> Iterator[None]:
        """The other workers stand still, so that this one answers."""
        with frozen([pid for pid in self.workers() if pid != worker]):
            yield

    # --- making senders and tokens

    def new_token(self, name: str, scope: str) -> str:
        """Make a token on the set-up page: a command takes a hundred times as long."""
        return self.know(self._shown_once("/setup/tokens", "secret", name=name, scope=scope))

    def sender(self, name: str, product: str = "auto") -> Sender:
        """Make an integration on the set-up page."""
        url = self._shown_once("/setup/integrations", "result-url", name=name, product=product)
        return Sender(self, name, self.know(url.rpartition("/")[2]), url)

    def _shown_once(self, form: str, field: str, **fields: str) -> str:
        """The secret that the page shows in this field, in answer to its form."""
        answer = self.submit(form, "/setup", self.admin_token, **fields)
        assert answer.status == 200, answer.body
        return re.search(rf'id="{field}" value="([^"]+)"', answer.body.decode())[1]

    def know(self, secret: str) -> str:
        """No log may hold it."""
        self.secrets.add(secret)
        return secret

    # --- talking HTTP

    def submit(self, form: str, page: str, token: str, **fields: str) -> Answer:
        """Send a form that the page has, as the browser of the token's owner does."""
        held = {"Cookie": f"plum_token={token}"}
        csrf = re.search(r'name="csrf" value="(\w+)"', self.request("GET", page, None, held).body.decode())[1]
        filled = urlencode(fields | {"csrf": csrf}).encode()
        return self.request("POST", form, filled, held | {"Content-Type": FORM})

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
        assert len(answers) == self.worker_count
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

    def pages(
        self, path: str, direction: str = "next", token: str | None = None, **filters: object
    ) -> Iterator[dict[str, Any]]:
        """This page and those that follow in the direction, at most 1000 of them."""
        for _ in range(1000):
            answer = self.get(path, token, **filters)
            assert answer.status == 200, answer.body
            page = answer.json()
            yield page
            if page[direction] is None:
                return
            parts = urlsplit(page[direction])
            path, filters = parts.path, dict(parse_qs(parts.query, keep_blank_values=True))
        raise AssertionError("the pages never end")

    def records(self, path: str, **filters: object) -> list[dict[str, Any]]:
        return [record for page in self.pages(path, **({"limit": 1000} | filters)) for record in page["data"]]


@dataclass(frozen=True)
class Template:
    """A store that the commands made. Each of them takes half a second, so other stores are copies of this one."""

    content: bytes
    tokens: dict[str, str]  # by scope
    key: str


_templates: dict[str, Template] = {}  # by the scheme of the store's URL


def _template(service: Service) -> Template:
    """Make the service's store like the first one of its engine, which the commands made."""
    scheme = urlsplit(service.database_url).scheme
    if scheme in _templates:
        service.restore(_templates[scheme].content)
    else:
        service.ok("migrate")
        tokens = {scope: service.json("token", "add", scope, "--scope", scope)["token"] for scope in SCOPES}
        key = service.json("integration", "add", "one")["key"]
        _templates[scheme] = Template(service.dumped(), tokens, key)
    return _templates[scheme]


def _group_of(pid: int) -> int | None:
    """Nothing for a process that is gone, or has ended and was not waited for."""
    try:
        state, _, group, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else int(group)


def command_line(pid: int) -> bytes:
    """Nothing for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


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

    def forget(self) -> None:
        """As if it had never posted."""
        with self.service.sql() as connection:
            self.service.tell_journal(connection, self.name)
            for table in ("outcomes", "deliveries"):
                connection.execute(f"DELETE FROM {table} WHERE integration = '{self.name}'")

    def assert_nothing_stored(self) -> None:
        assert self.deliveries() == []
        assert self.outcomes() == []


# --- fixtures. Here a store and its service last for all tests of an engine: starting real processes takes seconds.


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on both engines, or, where the engine makes no difference, on the one that the module names.

    A module names its `ENGINE` if it tests what is in front of the store; the store's own tests run on both engines.
    """
    if "engine_name" in metafunc.fixturenames:
        engine = getattr(metafunc.module, "ENGINE", None)
        metafunc.parametrize("engine_name", [engine] if engine else ENGINES, indirect=True, scope="session")


@pytest.fixture(scope="session")
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def new_database_url(
    engine_name: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[], str]:
    """Makes an empty store."""
    if engine_name == "sqlite":
        return lambda: f"sqlite:///{tmp_path_factory.mktemp('store') / 'outcomes.db'}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.create


@pytest.fixture(scope="session")
def database_url(new_database_url: Callable[[], str]) -> str:
    return new_database_url()


@pytest.fixture(scope="session")
def service(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers on each engine in turn."""
    made = Service(database_url, tmp_path_factory.mktemp("service")).prepare()
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def sender(service: Service) -> Sender:
    """A sender of which nothing is stored. Only what it sent is deleted: making another takes a second."""
    service.one.forget()
    return service.one


@pytest.fixture(scope="session")
def shared_sender(service: Service) -> Sender:
    """Another sender, of which something may be stored."""
    return service.sender("shared")


@pytest.fixture(scope="session")
def admin_token(service: Service) -> str:
    return service.admin_token


@pytest.fixture(scope="session")
def read_token(service: Service) -> str:
    return service.read_token


@pytest.fixture
def alone(new_database_url: Callable[[], str], tmp_path: Path) -> Iterator[Sender]:
    """A sender with a service of its own."""
    from tests.system.faults import running  # which knows the services of this module

    with running(new_database_url(), tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from tests.system.browser import chromium  # which knows the services of this module

    with chromium() as made:
        yield made
