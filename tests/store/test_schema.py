"""Migrations: they make exactly the schema, and go up and down on a store with data."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import insert, inspect, select, text

from app.errors import SchemaOutdated, StoreUnavailable
from app.interpret import interpret
from app.model import Delivery
from app.store import migrating, pagination, schema_version
from app.store.database import Database, wal_bytes
from app.store.integrations import add_integration, get_script, set_script
from app.store.query.question import Condition, Operator, Question, Records
from app.store.readings import save
from app.store.reprocess import reprocess_one
from app.store.schema import deliveries, do_not_call, metadata, outcomes
from app.store.timeouts import LOCK_SECONDS
from tests.conftest import wait_until


def test_migrations_make_exactly_the_schema(database) -> None:
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        differences = compare_metadata(context, metadata)
    assert differences == []


def test_migrations_go_down_and_up_again_on_a_store_with_data(database, fullness) -> None:
    with database.reading() as connection:
        assert bool(connection.execute(select(outcomes.c.id).limit(1)).first()) == (fullness == "full")
    migrating.migrate(database, "base")
    with pytest.raises(SchemaOutdated, match="run: plum-outcomes migrate"):
        schema_version.check(database)
    migrating.migrate(database)
    schema_version.check(database)


def test_outcomes_find_their_first_deliveries_when_an_older_store_is_migrated(database) -> None:
    readings = [
        interpret(Delivery(id=uuid4(), integration="mine", received_at=datetime.now(UTC), body=body))
        for body in (
            b"result=Completed&call_id=1",
            b"result=Completed&call_id=1&attempts=2",
            b"result=Failed&call_id=2",
        )
    ]
    save(database, readings)
    deliveries_of = partial(_deliveries_of, database)
    before = {reading.outcome.id: deliveries_of(reading.outcome.id) for reading in readings}
    migrating.migrate(database, "0001")
    migrating.migrate(database)
    assert {key: deliveries_of(key) for key in before} == before
    assert sorted(map(len, before.values())) == [1, 2]


def test_starts_and_scripts_survive_downgrade_and_upgrade_as_far_as_possible(database) -> None:
    add_integration(database, "mine", None, datetime.now(UTC))
    set_script(database, "mine", "<vxml/>")
    start = interpret(
        Delivery(id=uuid4(), integration="mine", received_at=datetime.now(UTC), body=b"call_id=1", started=True)
    )
    save(database, [start])
    assert start.start_of
    assert _deliveries_of(database, start.start_of) == {start.delivery.id}
    migrating.migrate(database, "0009")
    migrating.migrate(database)
    assert get_script(database, "mine") is None
    assert _deliveries_of(database, start.start_of) == set()
    reprocess_one(database, interpret, start.delivery.id)
    assert _deliveries_of(database, start.start_of) == {start.delivery.id}


def _deliveries_of(database, outcome_id) -> set:
    of_outcome = Condition("outcome_id", Operator.EQUAL, [outcome_id])
    rows = pagination.page(database, Question(records=Records.DELIVERIES, conditions=[of_outcome])).rows
    return {row["id"] for row in rows}


def test_migrating_twice_changes_nothing(database) -> None:
    with database.reading() as connection:
        before = connection.execute(select(outcomes).order_by(outcomes.c.id)).all()
    migrating.migrate(database)
    schema_version.check(database)
    with database.reading() as connection:
        assert connection.execute(select(outcomes).order_by(outcomes.c.id)).all() == before


def test_two_that_migrate_at_once_wait_for_one_another(database_url) -> None:
    failures = []

    def migrate() -> None:
        database = Database(database_url)
        try:
            migrating.migrate(database)
        except Exception as error:  # noqa: BLE001
            failures.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_current_schema_is_migrated_without_waiting_for_whoever_writes(database) -> None:
    """A service migrates before each start."""
    with database.writing() as writer:
        writer.execute(insert(do_not_call).values(phone_number="+16175551234", added_at=datetime.now(UTC)))
        migrating.migrate(database)
        assert schema_version.is_current(database)


def test_a_migration_waits_on_sqlite_for_whoever_writes(tmp_path, migrated_sqlite) -> None:
    database = Database(f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path)}", lock_seconds=30)
    migrating.migrate(database, "0013")
    with ThreadPoolExecutor() as pool:
        with database.writing():
            migration = pool.submit(migrating.migrate, database)
            with pytest.raises(TimeoutError):
                migration.result(LOCK_SECONDS + 0.5)
        migration.result()
    schema_version.check(database)
    database.close()


def test_a_migration_gives_up_on_a_table_that_is_read_for_long(crowded, monkeypatch) -> None:
    """All others who use the table queue behind it meanwhile."""
    migrating.migrate(crowded, "0010")
    monkeypatch.setattr(migrating, "PATIENT_LOCK_SECONDS", 0.2)
    with crowded.reading() as reader:
        reader.execute(text("SELECT count(*) FROM outcomes"))
        with pytest.raises(StoreUnavailable) as refused:
            migrating.migrate(crowded)
    assert "try again when that has ended" in refused.value.detail
    migrating.migrate(crowded)
    schema_version.check(crowded)


def test_a_migration_that_would_fill_the_disk_of_sqlite_is_undone(tmp_path, full_sqlite, monkeypatch) -> None:
    """Deliveries need the room meanwhile, and a service that runs keeps the file that holds what was undone."""
    database = Database(f"sqlite:///{shutil.copy(full_sqlite, tmp_path)}")
    migrating.migrate(database, "0001")
    before = wal_bytes(database)
    free = iter([1 << 30])
    monkeypatch.setattr(migrating, "free_bytes", lambda _: next(free, 0))
    monkeypatch.setattr(migrating, "CHECK_EVERY", 10)
    with pytest.raises(StoreUnavailable, match="make room"):
        migrating.migrate(database)
    assert before > wal_bytes(database) == 0
    monkeypatch.undo()
    migrating.migrate(database)
    schema_version.check(database)
    database.close()


def _columns(database) -> dict[tuple[str, str], dict]:
    with database.reading() as connection:
        found = inspect(connection)
        return {
            (table, column["name"]): column
            for table in found.get_table_names()
            for column in found.get_columns(table)
        }


@pytest.mark.parametrize("release", ["0010", "0011"])
def test_writes_of_an_earlier_release_fit_the_newest_schema(database, release) -> None:
    """So they go on while it is migrated, and until they are replaced."""
    newest = _columns(database)
    migrating.migrate(database, release)
    older = _columns(database)
    assert older.keys() <= newest.keys()
    for name, column in older.items():
        assert (str(newest[name]["type"]), newest[name]["nullable"]) == (str(column["type"]), column["nullable"])
    tables = {table for table, _ in older}
    for (table, name), column in newest.items():
        if table in tables and (table, name) not in older:
            assert column["nullable"] or column["default"] is not None, (table, name)


def test_callbacks_during_a_migration_are_all_stored(database) -> None:
    migrating.migrate(database, "0011")
    stop, sent = threading.Event(), []

    def come() -> None:
        while not stop.is_set():
            body = f"result=Completed&call_id={len(sent)}".encode()
            one = Delivery(id=uuid4(), integration="mine", received_at=datetime.now(UTC), body=body)
            while True:
                try:
                    save(database, [interpret(one)])
                    break
                except StoreUnavailable:  # then it would wait in the spool
                    continue
            sent.append(one.id)

    thread = threading.Thread(target=come)
    thread.start()
    try:
        wait_until(lambda: len(sent) > 20)
        migrating.migrate(database)
        before = len(sent)
        wait_until(lambda: len(sent) > before + 20)
    finally:
        stop.set()
        thread.join()
    with database.reading() as connection:
        mine = select(deliveries.c.id).where(deliveries.c.integration == "mine")
        assert sorted(connection.execute(mine).scalars()) == sorted(sent)
        told = connection.execute(select(outcomes.c.deliveries).where(outcomes.c.integration == "mine")).scalars()
        assert list(told) == [1] * len(sent)


def test_a_store_without_schema_names_the_command_to_run(database_url) -> None:
    database = Database(database_url)
    with pytest.raises(StoreUnavailable, match="plum-outcomes migrate"):
        pagination.count(database, Question(records=Records.OUTCOMES))
    database.close()


def test_sqlite_commits_are_durable(tmp_path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'outcomes.db'}")
    with database.reading() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        }
        assert inspect(connection).dialect.name == "sqlite"
    database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


@pytest.mark.parametrize("versions", [["0005x"], ["0014", "0099"], [""]], ids=["unknown", "several", "empty"])
def test_a_schema_that_no_migration_made_is_refused_with_a_message(database, versions) -> None:
    with database.writing() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        for version in versions:
            connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": version})
    for act in (schema_version.check, migrating.migrate):
        with pytest.raises(SchemaOutdated):
            act(database)
