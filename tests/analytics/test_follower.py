"""The copy holds what the store holds, whatever is written, wherever either is cut off, whoever else follows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from uuid import uuid4

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, text, update

from app.analytics import copy, follower
from app.analytics.copy import Copy, Locked
from app.analytics.failures import in_words
from app.analytics.follower import CopyUnavailable
from app.analytics.position import Position
from app.analytics.sql import rows
from app.errors import Damaged, MustReopen, StoreUnavailable
from app.interpret import interpret
from app.masking import masks
from app.model import Delivery
from app.query_router import QueryRouter
from app.store import csv_rows, journal
from app.store.csv_rows import COLUMNS
from app.store.query.question import Question, Records
from app.store.readings import save
from app.store.reprocess import reprocess_one
from app.store.schema import changes, deliveries, outcomes
from app.store.types import to_json
from tests.analytics.conftest import on_a_full_store, opened
from tests.conftest import wait_until
from tests.store.oracle import add_odd_texts

EVERYTHING = Question(records=Records.OUTCOMES)
NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)
ODD = st.sampled_from(
    ["", '"', '""', ",", "\n", "\r", "\r\n", 'a",\r\n"b', "\\N", "\\", "NULL", " a ", "\x01", "\ufeff", "'"]
)


def call(number: int, **fields: str) -> Delivery:
    """One more word about one of some calls."""
    told = {"result": "Completed", "call_id": str(number), "attempts": str(number % 3)} | fields
    body = "&".join(f"{name}={value}" for name, value in told.items()).encode()
    received_at = NOW + timedelta(seconds=number % 7)
    return Delivery(id=uuid4(), integration="ours", received_at=received_at, body=body)


def write(database, count: int, seed: int = 0) -> None:
    random = Random(seed)
    for _ in range(count // 10):
        save(database, [interpret(call(random.randrange(count), extra_=str(random.random()))) for _ in range(10)])


def stored(database) -> list[tuple]:
    with database.reading() as connection:
        return sorted(tuple(map(_plain, row)) for row in connection.execute(select(*COLUMNS)))


def copied(database, engine) -> list[tuple]:
    engine._reach(journal.horizon(database))
    with engine._copy.reading() as cursor:
        return sorted(tuple(map(_plain, row)) for row in rows(cursor, select(*COLUMNS)))


def _plain(value: object) -> str:
    return to_json(value) if isinstance(value, list | dict) else str(value)


def assert_same(database, engine) -> None:
    assert copied(database, engine) == stored(database)


def test_the_copy_holds_every_column_of_every_outcome(database, engine) -> None:
    add_odd_texts(database)
    assert_same(database, engine)
    write(database, 50)
    assert_same(database, engine)


def test_changes_removals_and_repetitions_reach_the_copy(database, engine) -> None:
    for round_ in range(3):
        write(database, 60, seed=round_)
        assert_same(database, engine)
    first = call(1)
    save(database, [interpret(first)])
    with database.writing() as connection:
        connection.execute(update(deliveries).where(deliveries.c.id == first.id).values(reference="named"))
    reprocess_one(database, interpret, first.id)  # which now names another call
    assert_same(database, engine)
    same = Delivery(id=uuid4(), integration="ours", received_at=NOW, body=b'{"call_details": {"status": "failed"}}')
    save(database, [interpret(same)])
    assert_same(database, engine)
    save(database, [interpret(same._replace(id=uuid4()))])  # marks the first as a possible duplicate
    assert_same(database, engine)


def test_masked_texts_are_stored_beside_the_plain_ones(database, engine) -> None:
    save(database, [interpret(call(1, note="617-555-1234", attempts="6175551234"))])
    copied(database, engine)
    mask = masks()
    with engine._copy.reading() as cursor:
        found = cursor.execute(
            "SELECT extra, extra_masked, problems, problems_masked FROM outcomes WHERE integration = 'ours'"
        ).fetchall()
    assert [(mask["extra"](extra), mask["problems"](problems)) for extra, _, problems, _ in found] == [
        (extra, problems) for _, extra, _, problems in found
    ]
    assert "•••1234" in found[0][1]
    assert "•••1234" in found[0][3]


@on_a_full_store
def test_a_value_as_large_as_a_body_can_make_it_is_copied_whole(database, engine) -> None:
    save(database, [interpret(call(1, note="é" * 3_000_000)), interpret(call(2))])
    assert_same(database, engine)


@on_a_full_store
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | ODD, min_size=4))
def test_any_text_is_copied_as_it_is(database, engine, texts) -> None:
    fields = ("result", "message_reference", "phone_number", "note")
    body = json.dumps({"call_id": str(uuid4()), **dict(zip(fields, texts, strict=False))}).encode()
    delivery = Delivery(id=uuid4(), integration="ours", received_at=NOW, body=body, batch=texts[0] or None)
    [receipt] = save(database, [interpret(delivery)])
    engine._reach(journal.horizon(database))
    one = select(*COLUMNS).where(outcomes.c.id == receipt.outcome_id)
    with engine._copy.reading() as cursor, database.reading() as connection:
        [ours], [theirs] = rows(cursor, one), connection.execute(one).all()
    assert list(map(_plain, ours)) == list(map(_plain, theirs))


def test_a_fill_reads_the_next_batch_while_it_writes_one(database, tmp_path, monkeypatch) -> None:
    write(database, 60)
    monkeypatch.setattr(follower, "FILL_ROWS", 20)
    read, copy_write = follower.csv_rows_behind, Copy.write
    reads, writes = [], []

    def noted_read(*args: object) -> object:
        reads.append(args)
        return read(*args)

    def late_write(self: Copy, batch: list, replaced: object, position: Position) -> None:
        writes.append(position)
        if not position.is_filled:
            wait_until(lambda: len(reads) > len(writes))
        copy_write(self, batch, replaced, position)

    monkeypatch.setattr(follower, "csv_rows_behind", noted_read)
    monkeypatch.setattr(Copy, "write", late_write)
    with closing(opened(database, tmp_path)) as engine:
        assert_same(database, engine)
    assert len(reads) == len(writes) > 2


def test_a_failed_read_of_a_batch_is_repeated(database, tmp_path, monkeypatch) -> None:
    write(database, 60)
    monkeypatch.setattr(follower, "FILL_ROWS", 20)
    read, failures = follower.csv_rows_behind, [2, 4]
    reads = count(1)

    def failing(*args: object) -> object:
        if next(reads) in failures:
            raise StoreUnavailable("the store is away")
        return read(*args)

    monkeypatch.setattr(follower, "csv_rows_behind", failing)
    with closing(opened(database, tmp_path)) as engine:
        for _ in failures:
            with pytest.raises(CopyUnavailable):
                copied(database, engine)
        assert_same(database, engine)


@pytest.mark.parametrize("pages", [1, 3])
def test_an_interrupted_fill_continues_where_it_stopped(database, tmp_path, monkeypatch, pages) -> None:
    monkeypatch.setattr(follower, "FILL_ROWS", 20)
    write(database, 100)
    engine = opened(database, tmp_path)
    for _ in range(1 + pages):
        engine._follower.step()
    write(database, 50, seed=2)
    engine.close()
    engine = opened(database, tmp_path)
    filled = engine._copy.count()
    assert filled == 20 * pages
    assert_same(database, engine)
    engine.close()


def test_large_outcomes_are_filled_in_few_at_a_time(database, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_CHARACTERS", 2000)
    save(database, [interpret(call(number, note="x" * 300)) for number in range(50)])
    engine = opened(database, tmp_path)
    assert_same(database, engine)
    engine.close()


def test_large_outcomes_are_followed_few_at_a_time(database, engine, monkeypatch) -> None:
    """The process of the copy would need several times as much memory as all of them have characters."""
    assert_same(database, engine)
    monkeypatch.setattr(csv_rows, "MAX_CHARACTERS", 2000)
    written, write_rows = [], engine._copy.write
    monkeypatch.setattr(
        engine._copy, "write", lambda rows, *others: written.append(rows) or write_rows(rows, *others)
    )
    save(database, [interpret(call(number, note="x" * 300)) for number in range(50)])
    with database.writing() as connection:
        journal.note(connection, [uuid4() for _ in range(5)])  # outcomes that were removed meanwhile
    assert_same(database, engine)
    assert sum(map(len, written)) == 50
    assert max(map(len, written)) <= 1 + 2000 // 300


def test_a_copy_that_is_opened_again_follows_from_where_it_was(database, tmp_path, monkeypatch) -> None:
    write(database, 50)
    engine = opened(database, tmp_path)
    assert_same(database, engine)
    engine.close()
    write(database, 50, seed=1)
    engine = opened(database, tmp_path)
    monkeypatch.setattr(engine._copy, "clear", lambda position: pytest.fail("it is filled anew"))
    assert_same(database, engine)
    engine.close()


@pytest.mark.parametrize("bounds", [(1, 1), (2, 3), (1000, 5)])
def test_a_long_way_behind_is_caught_up_in_steps_that_may_be_cut_off(database, tmp_path, monkeypatch, bounds) -> None:
    write(database, 20)
    engine = opened(database, tmp_path)
    assert_same(database, engine)
    monkeypatch.setattr(follower, "FOLLOW_CHANGES", bounds[0])
    monkeypatch.setattr(follower, "FOLLOW_OUTCOMES", bounds[1])
    write(database, 60, seed=1)
    for _ in range(3):
        engine._follower.step()
        engine.close()
        engine = opened(database, tmp_path)
    assert_same(database, engine)
    engine.close()


def test_a_transaction_of_more_outcomes_than_fit_at_once_is_copied_in_parts(database, engine, monkeypatch) -> None:
    assert_same(database, engine)
    monkeypatch.setattr(follower, "LOADED_AT_ONCE", 7)
    with database.writing() as connection:
        connection.execute(update(outcomes).values(batch="all at once"))
        journal.note(connection, connection.execute(select(outcomes.c.id)).scalars().all())
    write(database, 30)
    assert_same(database, engine)


def test_two_copies_of_one_store_hold_the_same(database, tmp_path) -> None:
    engines = [opened(database, tmp_path / name) for name in ("one", "other")]
    for seed in range(3):
        write(database, 30, seed)
        for engine in engines:
            assert_same(database, engine)
    for engine in engines:
        engine.close()


def test_a_journal_that_was_pruned_past_the_copy_is_noticed(database, tmp_path) -> None:
    write(database, 30)
    engine = opened(database, tmp_path)
    assert_same(database, engine)
    engine.close()
    write(database, 30, seed=1)
    journal.prune(database, datetime.now(UTC) + timedelta(days=1))
    engine = opened(database, tmp_path)
    assert_same(database, engine)
    engine.close()


def test_a_copy_of_another_store_is_filled_again(database, tmp_path, cluster, migrated_sqlite) -> None:
    """As where a backup was restored, or a path used for two stores one after the other."""
    engine = opened(database, tmp_path)
    write(database, 30)
    assert_same(database, engine)
    engine.close()
    with database.writing() as connection:
        connection.execute(delete(changes))
        connection.execute(delete(outcomes).where(outcomes.c.integration == "ours"))
    write(database, 10, seed=4)
    engine = opened(database, tmp_path)
    assert_same(database, engine)
    engine.close()


def test_a_journal_that_restarts_its_numbers_under_a_running_copy_is_noticed(database, engine) -> None:
    write(database, 30)
    assert_same(database, engine)
    position = engine._copy.position
    engine._copy.position = position._replace(seen=position.seen._replace(end=position.seen.end + 1_000_000))
    write(database, 10, seed=3)
    assert_same(database, engine)


def test_a_slow_transaction_is_not_missed(crowded, tmp_path) -> None:
    """Its number is lower than those of others that were seen long before it."""
    engine = opened(crowded, tmp_path)
    assert_same(crowded, engine)
    with crowded.writing() as slow:
        slow.execute(text("SELECT pg_current_xact_id()"))
        write(crowded, 20)
        assert_same(crowded, engine)
        slow.execute(update(outcomes).values(batch="late").where(outcomes.c.call_id < "2"))
        journal.note(slow, slow.execute(select(outcomes.c.id).where(outcomes.c.batch == "late")).scalars())
    assert_same(crowded, engine)
    engine.close()


@on_a_full_store
def test_an_answer_includes_everything_written_before_the_question(database, tmp_path) -> None:
    """Under writers that never rest: no count falls below what was acknowledged before it was asked for."""
    engine, stop = opened(database, tmp_path), threading.Event()
    following = threading.Thread(target=engine.run, args=(stop,))
    following.start()
    router = QueryRouter(database, database, engine)
    acknowledged, numbers = [0], iter(range(10_000))
    lock, failures = threading.Lock(), []

    def writing() -> None:
        while not stop.is_set():
            with suppress(
                StoreUnavailable
            ):  # on a busy machine: the other writer has the lock; nothing is acknowledged
                save(database, [interpret(call(next(numbers))) for _ in range(5)])
                with lock:
                    acknowledged[0] += 5

    before = len(stored(database))
    writers = [threading.Thread(target=writing) for _ in range(2)]
    for writer in writers:
        writer.start()
    wait_until(lambda: engine._follower._is_filled)
    for _ in range(40):
        known = acknowledged[0]
        counted = router._ask("count", EVERYTHING)
        if not before + known <= counted:
            failures.append((known, counted))
    stop.set()
    for thread in (*writers, following):
        thread.join()
    assert failures == []
    assert acknowledged[0] > 20
    engine._reach = engine._follower.bring_to
    assert_same(database, engine)
    engine.close()


def test_a_clock_jump_changes_nothing(database, engine, monkeypatch) -> None:
    write(database, 20)
    assert_same(database, engine)
    real = time.time
    for jump in (-10 * 86400, 10 * 86400):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        write(database, 20, seed=abs(jump))
        assert_same(database, engine)


FOLLOWING = """
import sys, threading
from pathlib import Path
from app.analytics.engine import Engine
from app.store.database import Database
from app.masking import masks
engine = Engine(Database(sys.argv[1]), Path(sys.argv[2]), "200MB", masks())
print("open", flush=True)
engine.run(threading.Event())
"""


@on_a_full_store
def test_a_process_that_is_killed_anywhere_leaves_a_usable_copy(database, tmp_path, engine_name, fullness) -> None:
    random = Random(f"{engine_name} {fullness}")
    file = tmp_path / "analytics.duckdb"
    for _ in range(4):
        command = [sys.executable, "-c", FOLLOWING, database.engine.url.render_as_string(False), str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "open\n"
            with pytest.raises(Locked, match="in use"):
                Copy(file, "200MB", masks())
            ends = time.monotonic() + random.uniform(0, 0.5)
            while time.monotonic() < ends:
                write(database, 20, seed=random.randrange(100))
            os.kill(process.pid, signal.SIGKILL)
    engine = opened(database, tmp_path)
    assert_same(database, engine)
    engine.close()


@on_a_full_store
@pytest.mark.parametrize("damage", ["gone", "no database", "cut", "zeros", "other version"])
def test_an_unusable_file_is_created_again(database, tmp_path, damage) -> None:
    write(database, 200)
    engine = opened(database, tmp_path)
    assert_same(database, engine)
    if damage == "other version":
        engine._copy._connection.execute("UPDATE state SET version = 0")
    engine.close()
    file = tmp_path / "analytics.duckdb"
    size = file.stat().st_size
    match damage:
        case "gone":
            file.unlink()
        case "no database":
            file.write_bytes(b"no database")
        case "cut":
            os.truncate(file, size // 2)
        case "zeros":
            with file.open("r+b") as content:
                content.seek(size // 3)
                content.write(bytes(size // 3))
    for _ in range(3):  # some damage is seen only when the rows are read
        engine = opened(database, tmp_path)
        try:
            same = copied(database, engine) == stored(database)
        except Damaged:
            engine._copy.remove()
            engine.close()
            continue
        break
    assert same
    assert_same(database, engine)
    engine.close()


@on_a_full_store
def test_texts_beyond_the_copys_memory_ask_for_more_memory_and_are_counted_with_it(database, tmp_path) -> None:
    for number in range(20):
        save(database, [interpret(call(number, extra_="x" * 1_000_000))])
    engine = opened(database, tmp_path, memory="30MB")
    with pytest.raises(CopyUnavailable, match=r"needs more memory .* PLUM_ANALYTICS_MEMORY; raise it"):
        copied(database, engine)
    engine.close()
    engine = opened(database, tmp_path, memory="400MB")
    assert_same(database, engine)
    engine.close()


def test_a_checkpoint_that_lacks_memory_leaves_the_file_in_place() -> None:
    message = (  # as DuckDB 2.0.1 words it
        "FATAL Error: Transaction COMMIT succeeded and is durable, but the autocheckpoint failed. Reopen the "
        "database instance to recover. Failed to create checkpoint because of error: failed to pin block"
    )
    with pytest.raises(MustReopen, match="needs more memory") as failure, in_words():
        raise duckdb.FatalException(message)
    assert not isinstance(failure.value, Damaged)


def test_a_file_that_is_deleted_under_the_process_is_noticed(database, engine, tmp_path) -> None:
    assert_same(database, engine)
    (tmp_path / "analytics.duckdb").unlink()
    with pytest.raises(Damaged, match="deleted"):
        engine.run(threading.Event())


def test_a_copy_that_is_being_filled_says_how_far_it_is(database, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(follower, "FILL_ROWS", 20)
    write(database, 100)
    engine = opened(database, tmp_path)
    engine._reach = engine._follower.wait_for
    monkeypatch.setattr(follower, "BEGINNING_SECONDS", 0)
    for _ in range(2):
        engine._follower.step()
    with pytest.raises(CopyUnavailable, match=r"being filled \(20 of about [0-9,]+ outcomes\)"):
        engine.ask("count", (EVERYTHING,), journal.horizon(database))
    engine.close()


def test_while_the_store_is_away_questions_say_so_and_then_go_on(database, engine, monkeypatch) -> None:
    assert_same(database, engine)
    write(database, 20)
    horizon = journal.horizon(database)
    with monkeypatch.context() as patch:
        patch.setattr(journal, "horizon", lambda database: _fail())
        with pytest.raises(CopyUnavailable, match="behind the store: it is away"):
            engine.ask("count", (EVERYTHING,), horizon)
    assert_same(database, engine)


def _fail() -> None:
    raise StoreUnavailable("it is away")


def test_a_full_disk_stops_the_copy_in_words(database, engine, monkeypatch) -> None:
    assert_same(database, engine)
    write(database, 20)
    with monkeypatch.context() as patch:
        patch.setattr(copy, "LEAST_FREE_BYTES", 1 << 60)
        with pytest.raises(CopyUnavailable, match="make room"):
            engine.ask("count", (EVERYTHING,), journal.horizon(database))
    assert_same(database, engine)


@pytest.mark.parametrize(
    "statement",
    ["COPY (SELECT 1) TO '{0}/out.csv'", "SELECT * FROM read_csv('/etc/passwd')", "ATTACH '{0}/other.db'",
     "INSTALL httpfs", "LOAD httpfs", "SET enable_external_access = true"],
)  # fmt: skip
@on_a_full_store
def test_the_copy_reads_and_writes_nothing_but_its_own_files(engine, tmp_path: Path, statement) -> None:
    with pytest.raises(duckdb.Error, match=r"disabled|locked"):
        engine._copy._connection.cursor().execute(statement.format(tmp_path))
