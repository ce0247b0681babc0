"""What has changed is told, whole and once, whoever commits when."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, select, text

from app.interpret import interpret
from app.model import Delivery
from app.pruning import Pruner
from app.store import journal
from app.store.backup import backup
from app.store.database import Database
from app.store.journal import Horizon, Span
from app.store.readings import save
from app.store.schema import changes

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)


def reading(body: bytes, **fields):
    return interpret(
        Delivery(id=uuid4(), integration="ours", received_at=NOW, body=body, **({"content_type": None} | fields))
    )


def call(name: str, attempts: int = 1):
    return reading(f"call_id={name}&result=Completed&attempts={attempts}".encode())


def between(database: Database, seen: Horizon, upto: Horizon | None = None) -> list[UUID]:
    span, found = Span(seen, upto or journal.horizon(database)), []
    while page := journal.page(database, span):
        found += [one for change in page for one in change.outcome_ids]
        span = span._replace(id=page[-1].id + 1)
    return found


def test_an_outcome_is_announced_when_it_is_new_and_when_it_changes(database) -> None:
    start = journal.horizon(database)
    assert between(database, start) == []
    [first] = save(database, [call("a")])
    middle = journal.horizon(database)
    save(database, [call("a", attempts=2)])
    assert between(database, start) == [first.outcome_id] * 2
    assert between(database, middle) == [first.outcome_id]
    assert between(database, journal.horizon(database)) == []


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)  # a server's numbers go on, whatever is restored
def test_a_restored_store_tells_its_changes_to_those_who_saw_the_lost_ones(database, tmp_path) -> None:
    save(database, [call("before")])
    backup(database, tmp_path / "backup.db")
    for name in ("lost", "lost too"):
        save(database, [call(name)])
    seen = journal.horizon(database)
    restored = Database(f"sqlite:///{tmp_path / 'backup.db'}")
    receipts = [save(restored, [call(name)])[0] for name in ("one", "another", "a third")]
    assert between(restored, seen) == [receipt.outcome_id for receipt in receipts]
    restored.close()


def test_an_unreadable_delivery_changes_no_outcome(database) -> None:
    start = journal.horizon(database)
    save(database, [reading(b"hello")])
    assert between(database, start) == []


def test_an_outcome_that_is_marked_because_of_another_has_changed_too(database) -> None:
    body = b'{"status":"completed","attempts":"1"}'
    [first] = save(database, [reading(body)])
    start = journal.horizon(database)
    [second] = save(database, [reading(body)])
    assert set(between(database, start)) == {first.outcome_id, second.outcome_id}
    start = journal.horizon(database)
    [third] = save(database, [reading(body)])
    assert between(database, start) == [third.outcome_id]


def test_a_span_gives_the_same_changes_whenever_and_from_wherever_it_is_read(database) -> None:
    start = journal.horizon(database)
    for number in range(40):
        save(database, [call(f"{number}-{part}") for part in range(3)])
    upto = journal.horizon(database)
    told = between(database, start, upto)
    save(database, [call("later")])
    assert between(database, start, upto) == told
    assert len(set(told)) == 120
    page = journal.page(database, Span(start, upto))
    for position, change in enumerate(page):
        for sent in range(3):
            [first, *_] = journal.page(database, Span(start, upto, change.id, sent))
            assert first.outcome_ids == change.outcome_ids[sent:]
            assert told[3 * position + sent :][: 3 - sent] == first.outcome_ids


def test_the_old_is_forgotten_but_numbers_go_on(database) -> None:
    save(database, [call("a")])
    save(database, [call("b")])
    assert journal.prune(database, datetime.now(UTC) - timedelta(hours=1)) == 0
    journal.prune(database, datetime.now(UTC) + timedelta(hours=1))
    start = journal.horizon(database)
    [third] = save(database, [call("c")])
    assert between(database, start) == [third.outcome_id]
    assert journal.prune(database, datetime.now(UTC) + timedelta(hours=1)) == 1


def test_all_that_is_old_is_forgotten_a_little_at_a_time(database) -> None:
    ages = {number: journal.KEPT + timedelta(hours=1 if number < -100 else -1) for number in range(-2600, 0)}
    rows = [{"id": n, "changed_at": datetime.now(UTC) - age, "outcome_ids": uuid4().bytes} for n, age in ages.items()]
    with database.writing() as connection:
        connection.execute(insert(changes), rows)
    pauses: list[float] = []
    assert not sum(Pruner(database, {}, lambda: datetime.now(UTC)).prune(pauses.append), Counter())
    assert len(pauses) == 3
    with database.reading() as connection:
        assert connection.execute(select(func.min(changes.c.id))).scalar() == -100


# --- several writers


def test_a_transaction_that_commits_late_is_neither_missed_nor_waited_for(crowded) -> None:
    start = journal.horizon(crowded)
    late = uuid4()
    with crowded.writing() as held:
        journal.note(held, [late])
        [quick] = save(crowded, [call("quick")])
        middle = journal.horizon(crowded)
        assert between(crowded, start, middle) == [quick.outcome_id]
    assert between(crowded, middle) == [late]
    assert between(crowded, start) == [late, quick.outcome_id]
    assert between(crowded, start, middle) == [quick.outcome_id]


def test_all_transactions_that_are_running_are_waited_for_the_newest_too(crowded) -> None:
    with crowded.engine.connect() as older, crowded.engine.connect() as newest:
        for connection in (older, newest):
            connection.execute(text("SELECT pg_current_xact_id()"))
        older.rollback()
        waiting = threading.Thread(target=journal.wait_for_running, args=(crowded,))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        newest.rollback()
        waiting.join(10)
        assert not waiting.is_alive()


def test_two_notes_of_one_transaction_are_both_kept(crowded) -> None:
    start = journal.horizon(crowded)
    first, second = uuid4(), uuid4()
    with crowded.writing() as connection:
        journal.note(connection, [first])
        journal.note(connection, [second])
    assert between(crowded, start) == [first, second]


def test_each_change_of_concurrent_writers_is_sent_once(crowded) -> None:
    start = seen = journal.horizon(crowded)
    told: list[UUID] = []
    written: list[UUID] = []

    def write(writer: int) -> None:
        for number in range(25):
            written.extend(receipt.outcome_id for receipt in save(crowded, [call(f"{writer}-{number}")]))

    with crowded.writing() as held:
        journal.note(held, [held_open := uuid4()])
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            upto = journal.horizon(crowded)
            told += between(crowded, seen, upto)
            seen = upto
        for thread in threads:
            thread.join()
    told += between(crowded, seen)
    assert len(told) == len(set(told)) == 151
    assert set(told) == {*written, held_open} == set(between(crowded, start))


# --- another server


def ahead(database: Database) -> None:
    """As if all that is known were of a server that has come much further, as after a dump and its restore."""
    with database.writing() as connection:
        connection.execute(text("UPDATE changes SET id = id + 1000000000"))


def test_on_another_server_the_journal_is_renewed(crowded) -> None:
    assert not journal.renew(crowded, NOW)
    assert journal.renewed_at(crowded) == 0
    save(crowded, [call("before")])
    mark = journal.last(crowded, journal.horizon(crowded))
    assert journal.has(crowded, mark)
    ahead(crowded)
    assert journal.renew(crowded, NOW)
    assert not journal.renew(crowded, NOW)
    assert journal.renewed_at(crowded) == NOW.timestamp()
    assert not journal.has(crowded, mark)
    start = journal.horizon(crowded)
    [after] = save(crowded, [call("after")])
    assert between(crowded, start) == [after.outcome_id]


def test_a_journal_of_this_server_is_kept_during_running_transactions(crowded) -> None:
    save(crowded, [call("a")])
    with crowded.writing() as held:
        journal.note(held, [uuid4()])
        assert not journal.renew(crowded, NOW)
    assert not journal.renew(crowded, NOW)


def test_the_newest_change_is_known_again_until_it_is_another(database) -> None:
    """By its number and moment: numbers begin anew where a backup is restored."""
    save(database, [call("a")])
    mark = journal.last(database, journal.horizon(database))
    save(database, [call("b")])
    assert journal.has(database, mark)
    assert journal.last(database, journal.horizon(database)).id > mark.id
    assert not journal.has(database, mark._replace(changed_at=NOW))
    journal.prune(database, datetime.now(UTC) + timedelta(hours=1))
    assert not journal.has(database, mark)
    assert journal.has(database, journal.last(database, journal.horizon(database)))
