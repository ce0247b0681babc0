"""What surrounds the service is other than hoped for: it serves, or it says in one line what to mend."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Cluster, frozen, skip_or_fail, wait_until
from tests.system.conftest import Installation, Sender, Service, dev_body
from tests.system.faults import (
    Load,
    assert_nothing_lost_or_doubled,
    beside,
    beside_workers,
    metric,
    running,
    stopped,
    stored,
)
from tests.system.test_start import start

HUNG_SECONDS = 30
WAITS_SECONDS = 8  # longer than commands take to start and a callback waits
CONNECTIONS = 8


@pytest.fixture(scope="module")
def surrounded(own: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    """A service that is well again after each test."""
    with running(own.create(), tmp_path_factory.mktemp("surrounded")) as made:
        yield made


@pytest.fixture
def sender(surrounded: Sender) -> Sender:
    surrounded.forget()
    return surrounded


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """A disk that takes nothing, for root neither."""
    if os.geteuid() != 0:
        skip_or_fail("a disk is mounted only by root; run the tests as root, in a container for example")
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=1M", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        skip_or_fail(f"no disk can be mounted here: {done.stderr.strip()}; run the tests where mount is allowed")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_an_unwritable_spool_does_not_prevent_the_start(own: Cluster, tmp_path: Path) -> None:
    service = Service(own.create(), tmp_path).prepare()
    sender = service.one
    with read_only(tmp_path / "spool"):
        service.start()
        try:
            sender.assert_accepted(dev_body(call_id="1"))
            ready = service.request("GET", "/readyz").body.decode()
            assert "spool: it cannot be written: Read-only file system" in ready
            assert "housekeeping" in ready
            assert str(tmp_path) not in ready
            assert "cannot be written" in service.stderr
            assert service.get("outcomes").status == 200
        finally:
            service.stop()


def test_with_neither_store_nor_spool_the_start_fails_in_one_line(own: Cluster, tmp_path: Path) -> None:
    service = Service(own.create(), tmp_path)
    with stopped(own), read_only(tmp_path / "spool"):
        service.assert_one_line("serve", "--bind", f"127.0.0.1:{service.port}", says="refused")


STALLING = """
import os
from time import sleep  # of Python itself: gevent replaces the module's

sync = os.fsync

def stall(descriptor):
    while os.path.exists("stalls") and "/spool/" in os.readlink(f"/proc/self/fd/{descriptor}"):
        sleep(0.01)
    sync(descriptor)

os.fsync = stall
"""


@pytest.fixture
def stalls(own: Cluster, tmp_path: Path) -> Iterator[tuple[Sender, Path]]:
    """The sender of a service with one worker, and a file: while it exists, the spool's disk stalls."""
    (tmp_path / "sitecustomize.py").write_text(STALLING)
    service = Service(own.create(), tmp_path, {"PYTHONPATH": str(tmp_path)}, worker_count=1).prepare()
    service.start()
    stalling = tmp_path / "stalls"
    try:
        yield service.one, stalling
    finally:
        stalling.unlink(missing_ok=True)
        service.stop()


def test_only_posts_that_need_a_spool_disk_wait_while_it_stalls(own: Cluster, stalls: tuple[Sender, Path]) -> None:
    sender, stalling = stalls
    service = sender.service
    with stopped(own):
        stalling.touch()
        with Load(sender, "stalled", threads=2, pause=0.0, most=2) as load:
            wait_until(lambda: list((service.directory / "spool").glob("0*")))
            for _ in range(20):
                service.request("GET", sender.path).assert_completed()
                assert service.request("GET", "/livez").status == 200
            assert start(sender, call_id="").headers["Content-Type"].startswith("application/voicexml+xml")
            assert load.posts == []
            stalling.unlink()
            load.wait_for(2)
    assert_nothing_lost_or_doubled(sender, load.acknowledged)


def test_a_new_key_works_while_the_spools_disk_stalls(stalls: tuple[Sender, Path]) -> None:
    sender, stalling = stalls
    stalling.touch()
    new = sender.service.sender("new")
    for one in (new, sender):
        one.assert_accepted(dev_body(call_id="1"))
    for _ in range(20):
        new.service.request("GET", new.path).assert_completed()


def test_frozen_housekeeping_is_reported(sender: Sender) -> None:
    service = sender.service
    house = beside(service, "housekeeping")
    assert house
    assert metric(service, "plum_housekeeping_heartbeat_age_seconds") < HUNG_SECONDS
    with frozen([house]):
        wait_until(lambda: "housekeeping: has not gone on" in readiness(service), HUNG_SECONDS + 15)
        assert metric(service, "plum_housekeeping_heartbeat_age_seconds") > HUNG_SECONDS
        assert service.request("GET", "/readyz").status == 200
        sender.assert_accepted(dev_body(call_id="1"))
    wait_until(lambda: "housekeeping" not in readiness(service))


def readiness(service: Service) -> str:
    return service.request("GET", "/readyz").body.decode()


def test_a_question_to_a_frozen_store_is_answered_in_time(own: Cluster, sender: Sender) -> None:
    service = sender.service
    for path in ("outcomes", "deliveries"):
        assert service.get(path).status == 200
    with frozen(own.pids()):
        answer = service.get("outcomes")
        assert (answer.status, bool(answer.headers["Retry-After"])) == (503, True)
        assert "127.0.0.1" not in answer.body.decode()
    wait_until(lambda: service.get("outcomes").status == 200)


def test_a_worker_opens_no_more_connections_than_are_allowed(own: Cluster, sender: Sender) -> None:
    service = sender.service
    with Load(sender, "busy", threads=8) as load:
        load.wait_for(100)
        for _ in range(3):
            service.get("summary", group_by="day")
        with psycopg.connect(own.url("postgres").replace("+psycopg", "")) as connection:
            name = service.database_url.rpartition("/")[2]
            asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
            [count] = connection.execute(asked, (name,)).fetchone() or ()
    assert 0 < count <= 2 * CONNECTIONS + 5


def test_one_damaged_record_costs_no_neighbour_and_is_reported_until_it_is_retried(
    own: Cluster, sender: Sender
) -> None:
    service = sender.service
    with stopped(own):
        with Load(sender, "away", threads=4) as away:
            away.wait_for(200)
        segments = sorted((service.directory / "spool").glob("*.segment"))
        assert 1 <= len(segments) <= 4
        content = segments[0].read_bytes()
        at = content.index(b"call_id=", len(content) // 2)
        segments[0].write_bytes(content[:at] + b"X" + content[at + 1 :])
        (segments[0].parent / f"copy-of-{segments[0].name}").write_bytes(segments[0].read_bytes())
        (segments[0].parent / "0.segment").write_bytes(b"")
    hit = content[content.index(b"call_id=", at) :].split(b"&")[0].removeprefix(b"call_id=").decode()
    others = [post for post in away.acknowledged if post.body[0] != hit]
    assert len(others) >= len(away.acknowledged) - 2
    wait_until(lambda: metric(service, "plum_spool_deliveries") == 0, 30)
    assert {post.body for post in others} <= {one.body for one in stored(sender)}
    assert metric(service, "plum_spool_aside_files") == 2
    assert service.json("spool", "retry") == {"files": 0}
    assert metric(service, "plum_spool_aside_files") == 0
    assert "set aside" not in readiness(service)


def test_a_large_spool_is_drained_beside_live_posts_through_a_kill(own: Cluster, sender: Sender) -> None:
    service = sender.service
    with stopped(own), Load(sender, "away", threads=8, pause=0.0) as away:
        away.wait_for(3000)
    with Load(sender, "live", threads=2) as live:
        wait_until(lambda: metric(service, "plum_spool_drained_total") > 0, 10)
        for house in beside_workers(service):
            os.kill(house, signal.SIGKILL)
        live.wait_for(50)
    assert {post.status for post in live.posts} == {200}
    assert_nothing_lost_or_doubled(sender, [*away.acknowledged, *live.acknowledged])


def test_commands_wait_while_somebody_writes_to_sqlite(tmp_path: Path) -> None:
    """A shell, an import or a migration may write for longer than a callback waits."""
    store = Service(f"sqlite:///{tmp_path / 'outcomes.db'}", tmp_path).prepare()
    store.settings["PLUM_RETAIN_AUDIT_DAYS"] = "30"
    (tmp_path / "deliveries.ndjson").write_text('{"integration": "one", "body": "result=Completed&call_id=1"}\n')
    commands = ["token add late", "import deliveries.ndjson", "reprocess", "prune", "backup copy"]
    with ThreadPoolExecutor(len(commands)) as pool:
        with closing(sqlite3.connect(tmp_path / "outcomes.db", isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            running_now = [pool.submit(store.run, *command.split()) for command in commands]
            time.sleep(WAITS_SECONDS)
        done = [each.result() for each in running_now]
    assert [each.stderr for each in done] == [""] * len(commands)
    assert [each.returncode for each in done] == [0] * len(commands)


@pytest.mark.parametrize("release", ["0010", "9999"])
def test_a_service_that_starts_on_the_schema_of_another_release_loses_no_result(tmp_path: Path, release: str) -> None:
    """The migration may have failed, or an older release is started again."""
    service = Service(f"sqlite:///{tmp_path / 'outcomes.db'}", tmp_path).prepare()
    service.start()
    service.one.assert_accepted(dev_body(call_id="before"))
    wait_until(lambda: (tmp_path / "spool" / "keys.json").exists())
    service.stop()
    with service.sql() as connection:
        [(newest,)] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        connection.execute(f"UPDATE alembic_version SET version_num = '{release}'")
        connection.execute("ALTER TABLE outcomes RENAME COLUMN metadata TO other")
    service.start()
    try:
        assert "schema" in readiness(service)
        service.one.assert_accepted(dev_body(call_id="after"), verdict="spooled")
        with service.sql() as connection:
            connection.execute("ALTER TABLE outcomes RENAME COLUMN other TO metadata")
            connection.execute(f"UPDATE alembic_version SET version_num = '{newest}'")
        wait_until(lambda: {outcome["call_id"] for outcome in service.one.outcomes()} == {"before", "after"})
    finally:
        service.stop()


def test_settings_of_the_database_cost_no_post(own: Cluster, tmp_path: Path) -> None:
    service = Service(own.create(), tmp_path).prepare()
    empty = Installation(own.create(), tmp_path)
    with psycopg.connect(own.url("postgres").replace("+psycopg", ""), autocommit=True) as connection:
        for setting in (
            "datestyle TO 'SQL, DMY'",
            "timezone TO 'Asia/Kathmandu'",
            "default_transaction_read_only TO on",
            "client_encoding TO 'LATIN1'",
            "search_path TO nowhere",
        ):
            for store in (service, empty):
                connection.execute(f'ALTER DATABASE "{store.database_url.rpartition("/")[2]}" SET {setting}')
    empty.ok("migrate")
    service.start()
    try:
        service.one.assert_accepted(dev_body(call_id="é"))
        assert service.one.outcome()["call_id"] == "é"
        assert readiness(service).startswith("store: ok")
        csv = service.get("outcomes.csv", fields="call_id,status")
        assert (csv.status, "é" in csv.body.decode()) == (200, True)
    finally:
        service.stop()


def test_an_unforeseen_error_costs_no_post_and_is_reported(sender: Sender) -> None:
    service = sender.service
    with service.sql() as connection:
        connection.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION 'about %', NEW.body USING ERRCODE = 'F0000'; END$$"
        )
        connection.execute("CREATE TRIGGER f BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION fail()")
        connection.commit()
    with Load(sender, "odd", threads=2) as load:
        load.wait_for(50)
        ready = service.request("GET", "/readyz")
    assert {(post.status, post.verdict) for post in load.posts} == {(200, "spooled")}
    assert (ready.status, "store: ok" in ready.body.decode()) == (200, False)
    assert metric(service, "plum_spool_aside_files") == 0
    with service.sql() as connection:
        connection.execute("DROP TRIGGER f ON deliveries")
        connection.commit()
    assert_nothing_lost_or_doubled(sender, load.acknowledged)
