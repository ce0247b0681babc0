"""The store as it is found: with settings of others, in another encoding, behind a pooler, frozen; its secrets."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
from sqlalchemy import event, select, text

from app.errors import ConfigError, StoreRefused, StoreUnavailable
from app.interpret import interpret
from app.model import Delivery, Reading, Verdict
from app.store import migrating, postgresql, schema_version, sqlite
from app.store.database import Database, truncate_wal, wal_bytes
from app.store.readings import rehearse, save
from app.store.schema import deliveries
from tests.conftest import Cluster, free_port, frozen, skip_or_fail, wait_until

AT = datetime(2026, 3, 8, 14, 30, 15, 123456, tzinfo=UTC)
HOSTILE = {
    "datestyle": "SQL, DMY",
    "timezone": "Asia/Kathmandu",
    "intervalstyle": "iso_8601",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "synchronous_commit": "off",
    "standard_conforming_strings": "off",
    "extra_float_digits": "-15",
    "search_path": "nowhere",
    "statement_timeout": "1s",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1s",
    "idle_session_timeout": "1s",
    "row_security": "off",
    "jit": "on",
}


def reading(body: bytes = b"result=Completed&call_id=1&phone_number=6175551234") -> Reading:
    return interpret(Delivery(id=uuid4(), integration="ours", received_at=AT, body=body, headers=(("X", "é€"),)))


def assert_keeps_what_it_is_given(database: Database, calls: int = 12) -> None:
    """Often enough for the driver to prepare its statements."""
    for number in range(calls):
        sent = reading(b"result=Completed&callee_type=voice&call_id=%s-%d" % ("é".encode(), number))
        [receipt] = save(database, [sent])
        assert receipt.verdict is Verdict.APPLIED
        rehearse(database, reading(b"rehearsal"))
        with database.reading() as connection:
            [row] = connection.execute(select(deliveries).where(deliveries.c.id == sent.delivery.id)).all()
        assert (row.received_at, bytes(row.body), row.headers) == (AT, sent.delivery.body, [["X", "é€"]])


def asked(database: Database, statement: str) -> object:
    with database.reading() as connection:
        return connection.execute(text(statement)).scalar_one()


# --- settings of others


@pytest.fixture(params=["database", "role"])
def hostile(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database in which, or for a role to which, everything is set otherwise."""
    with cluster.lent() as url:
        name = url.rpartition("/")[2]
        whose = f'DATABASE "{name}"' if request.param == "database" else f'ROLE "{name}"'
        cluster._in_postgres(f'CREATE ROLE "{name}" SUPERUSER LOGIN')
        for setting, value in HOSTILE.items():
            cluster._in_postgres(f"ALTER {whose} SET {setting} = '{value}'")
        yield url.replace("postgres@", f"{name}@")
    cluster._in_postgres(f'DROP ROLE "{name}"')


def test_settings_of_the_database_or_the_role_change_nothing(hostile: str) -> None:
    database = Database(hostile)
    migrating.migrate(database)
    assert_keeps_what_it_is_given(database)
    assert asked(database, "SHOW synchronous_commit") == "on"
    assert asked(database, "SHOW transaction_isolation") == "read committed"
    assert asked(database, "SHOW idle_session_timeout") == "0"
    with database.reading(seconds=5) as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "5s"
    database.close()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding_is_named_with_what_to_do(cluster: Cluster, encoding: str) -> None:
    name = f"test_{uuid4().hex}"
    cluster._in_postgres(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    database = Database(cluster.url(name))
    for ask in (migrating.migrate, schema_version.check):
        with pytest.raises(StoreUnavailable) as failure:
            ask(database)
        assert f"encoding is {encoding}; make one with ENCODING 'UTF8'" in failure.value.detail
        assert "\n" not in failure.value.detail
    database.close()
    cluster._in_postgres(f"DROP DATABASE {name}")


# --- a pooler


@contextmanager
def pgbouncer(cluster: Cluster, directory: Path, mode: str) -> Iterator[int]:
    """Its port. By transaction all clients share two of the server's sessions."""
    if not Path("/usr/sbin/pgbouncer").exists():
        skip_or_fail("pgbouncer is not here; install it: apt-get install pgbouncer")
    port = free_port()
    (directory / "users").write_text('"postgres" ""\n')
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={cluster.port}\n"
        f"[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\nunix_socket_dir=\nauth_type=trust\n"
        f"auth_file={directory}/users\npool_mode={mode}\nlogfile={directory}/log\n"
        f"default_pool_size={2 if mode == 'transaction' else 9}\n"
    )
    for path in (directory, *directory.iterdir()):
        path.chmod(0o777)
    command = ["/usr/sbin/pgbouncer", "-q", str(directory / "pgbouncer.ini")]
    with subprocess.Popen(command, user=cluster.user, cwd="/", stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _listens(port))
            yield port
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_changes_nothing(cluster: Cluster, mode: str) -> None:
    with (
        TemporaryDirectory(prefix="plum-pgbouncer-") as directory,
        pgbouncer(cluster, Path(directory), mode) as port,
        cluster.lent() as url,
    ):
        for setting in ("datestyle", "timezone", "bytea_output", "synchronous_commit", "lock_timeout"):
            cluster._in_postgres(f"ALTER DATABASE {url.rpartition('/')[2]} SET {setting} = '{HOSTILE[setting]}'")
        pooled = [Database(url.replace(str(cluster.port), str(port)), connections=2) for _ in range(3)]
        migrating.migrate(pooled[0])
        threads, failures = [], []

        def work(database: Database) -> None:
            try:
                for _ in range(3):
                    sent = [reading(b"result=Completed&call_id=%s" % uuid4().hex.encode()) for _ in range(3)]
                    save(database, sent)
                assert asked(database, "SHOW synchronous_commit") == "on"
                assert asked(database, "SHOW datestyle") == "ISO, MDY"
                with database.reading(seconds=5) as connection:
                    assert connection.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"
                    assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "5s"
            except Exception as failure:  # noqa: BLE001
                failures.append(failure)

        for database in pooled * 2:
            threads.append(threading.Thread(target=work, args=(database,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert_keeps_what_it_is_given(pooled[1])
        for database in pooled:
            database.close()


# --- a server that stands still


def test_a_question_on_an_open_connection_of_a_frozen_server_ends(own: Cluster, monkeypatch) -> None:
    monkeypatch.setattr(postgresql, "GRACE_SECONDS", 0.3)
    database = Database(own.create(), connections=1)
    assert asked(database, "SELECT 1") == 1
    with frozen(own.pids()):
        failures = []

        def ask() -> None:
            try:
                with database.reading(seconds=0.2) as connection:
                    connection.execute(text("SELECT 1"))
            except StoreUnavailable as failure:
                failures.append(failure)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(8)
        assert [str(failure) for failure in failures] == ["the store does not answer"]
    wait_until(lambda: asked(database, "SELECT 1") == 1)
    database.close()


# --- connections


def test_no_more_connections_are_opened_than_were_asked_for(crowded: Database) -> None:
    database = Database(crowded.engine.url.render_as_string(hide_password=False), connections=2)
    opened = []
    event.listen(database.engine, "connect", lambda *_: opened.append(1))
    threads = [threading.Thread(target=asked, args=(database, "SELECT pg_sleep(0.05)")) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 2
    database.close()


def test_waiting_in_vain_for_a_connection_is_an_error(store_url: str, monkeypatch) -> None:
    monkeypatch.setattr(postgresql, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(sqlite, "POOL_SECONDS", 0.1)
    database = Database(store_url, connections=1)
    with database.reading(), pytest.raises(StoreUnavailable, match="connections"), database.reading():
        pass
    database.close()


# --- secrets and values


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:{}@127.0.0.1:1/x",
        "postgresql+psycopg://u@127.0.0.1:1/x?password={}",
        "postgresql+psycopg://127.0.0.1:1/x?user=u&password={}",
        "postgresql+psycopg://u:{}@[::1/x",
        "mysql://u:{}@127.0.0.1/x",
        "{}",
    ],
)
@pytest.mark.parametrize(
    "password", ["hunter2", "hun@ter2", "hun/ter2", "hun#ter2", "hun?ter2", "hun:ter2", "hun%40ter2", "h?a=un@ter2"]
)
def test_no_error_holds_a_part_of_the_password(url: str, password: str) -> None:
    with pytest.raises((ConfigError, StoreUnavailable)) as failure:
        schema_version.check(Database(url.format(password)))
    for shown in (str(failure.value), failure.value.detail):
        assert "ter2" not in shown
        assert "hun" not in shown
        assert "\n" not in shown


def test_strangers_do_not_hear_where_the_store_is_and_the_operator_does(tmp_path) -> None:
    for url, place in {
        "postgresql+psycopg://someone:x@127.0.0.1:1/calls": "127.0.0.1:1/calls",
        f"sqlite:///{tmp_path}/outcomes.db": str(tmp_path),
    }.items():
        database = Database(url)
        with pytest.raises(StoreUnavailable) as failure, database.reading() as connection:
            connection.execute(text("SELECT * FROM deliveries"))
        assert place in failure.value.detail
        assert not [one for one in ("127.0.0.1", "calls", "someone", str(tmp_path)) if one in str(failure.value)]
        database.close()


def test_no_error_and_no_trace_holds_a_value(crowded: Database, caplog) -> None:
    statements = [
        "SELECT CAST(:value AS integer)",
        "SELECT CAST(:value AS timestamptz)",
        "INSERT INTO integrations (name, created_at) VALUES (:value, now()), (:value, now())",
        "DO $$BEGIN RAISE EXCEPTION 'about 16175551234'; END$$",
    ]
    for statement in statements:
        with pytest.raises((StoreRefused, StoreUnavailable)) as failure, crowded.writing() as connection:
            connection.execute(text(statement), {"value": "16175551234"} if ":value" in statement else {})
        assert "16175551234" not in f"{failure.value} {failure.value.detail}"


# --- SQLite's log of changes


def test_a_large_wal_is_emptied_once_no_reader_prevents_it(tmp_path) -> None:
    file = tmp_path / "outcomes.db"
    database = Database(f"sqlite:///{file}")
    migrating.migrate(database)
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM deliveries").fetchall()
        save(database, [reading(b"result=Completed&call_id=%d" % number) for number in range(200)])
        large = wal_bytes(database)
        assert not truncate_wal(database, above=50_000)
        assert wal_bytes(database) == large > 50_000
        save(database, [reading(b"result=Completed&call_id=during")])
    assert truncate_wal(database, above=50_000)
    assert wal_bytes(database) == 0
    database.close()


def test_opening_sqlite_writes_nothing_and_waits_for_no_writer(tmp_path) -> None:
    """Otherwise a question, or the probe of a store that is away, stops its worker while somebody writes."""
    file = tmp_path / "outcomes.db"
    first = Database(f"sqlite:///{file}")
    migrating.migrate(first)
    written = wal_bytes(first)
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        second = Database(f"sqlite:///{file}")
        with second.reading() as connection:
            assert connection.execute(select(deliveries.c.id)).all() == []
            pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("page_size", "auto_vacuum")]
        second.close()
    assert wal_bytes(first) == written
    first.close()
    assert pragmas == [sqlite.PAGE_BYTES, 2]  # incremental
