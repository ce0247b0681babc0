"""What has changed is told, whole and once, whoever commits when."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import text

from app.interpret import interpret
from app.model import Delivery
from app.store import changes
from app.store.changes import Horizon, Span
from app.store.database import Database
from app.store.readings import save

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)


def reading(body: bytes, **fields):
    return interpret(
        Delivery(id=uuid4(), integration="ours", received_at=NOW, body=body, **({"content_type": None} | fields))
    )


def call(name: str, attempts: int = 1):
    return reading(f"call_id={name}&result=Completed&attempts={attempts}".encode())


def between(database: Database, seen: Horizon, upto: Horizon | None = None) -> list[UUID]:
    span, found = Span(seen, upto or changes.horizon(database)), []
    while page := changes.page(database, span):
        found += [one for change in page for one in change.outcome_ids]
        span = span._replace(id=page[-1].id + 1)
    return found


def test_an_outcome_is_told_when_it_is_new_and_when_it_changes(database) -> None:
    start = changes.horizon(database)
    assert between(database, start) == []
    [first] = save(database, [call("a")])
    middle = changes.horizon(database)
    save(database, [call("a", attempts=2)])
    assert between(database, start) == [first.outcome_id] * 2
    assert between(database, middle) == [first.outcome_id]
    assert between(database, changes.horizon(database)) == []


def test_what_could_not_be_understood_changes_nothing(database) -> None:
    start = changes.horizon(database)
    save(database, [reading(b"hello")])
    assert between(database, start) == []


def test_an_outcome_that_is_marked_because_of_another_has_changed_too(database) -> None:
    body = b'{"status":"completed","attempts":"1"}'
    [first] = save(database, [reading(body)])
    start = changes.horizon(database)
    [second] = save(database, [reading(body)])
    assert set(between(database, start)) == {first.outcome_id, second.outcome_id}
    start = changes.horizon(database)
    [third] = save(database, [reading(body)])
    assert between(database, start) == [third.outcome_id]


def test_a_span_gives_the_same_changes_whenever_and_from_wherever_it_is_read(database) -> None:
    start = changes.horizon(database)
    for number in range(40):
        save(database, [call(f"{number}-{part}") for part in range(3)])
    upto = changes.horizon(database)
    told = between(database, start, upto)
    save(database, [call("later")])
    assert between(database, start, upto) == told
    assert len(set(told)) == 120
    page = changes.page(database, Span(start, upto))
    for position, change in enumerate(page):
        for sent in range(3):
            [first, *_] = changes.page(database, Span(start, upto, change.id, sent))
            assert first.outcome_ids == change.outcome_ids[sent:]
            assert told[3 * position + sent :][: 3 - sent] == first.outcome_ids


def test_the_old_is_forgotten_but_numbers_go_on(database) -> None:
    save(database, [call("a")])
    save(database, [call("b")])
    assert changes.prune(database, datetime.now(UTC) - timedelta(hours=1)) == 0
    changes.prune(database, datetime.now(UTC) + timedelta(hours=1))
    start = changes.horizon(database)
    [third] = save(database, [call("c")])
    assert between(database, start) == [third.outcome_id]
    assert changes.prune(database, datetime.now(UTC) + timedelta(hours=1)) == 1


# --- several writers


def test_a_transaction_that_commits_late_is_neither_missed_nor_waited_for(crowded) -> None:
    start = changes.horizon(crowded)
    late = uuid4()
    with crowded.writing() as held:
        changes.note(held, [late])
        [quick] = save(crowded, [call("quick")])
        middle = changes.horizon(crowded)
        assert between(crowded, start, middle) == [quick.outcome_id]
    assert between(crowded, middle) == [late]
    assert between(crowded, start) == [late, quick.outcome_id]
    assert between(crowded, start, middle) == [quick.outcome_id]


def test_two_notes_of_one_transaction_are_both_kept(crowded) -> None:
    start = changes.horizon(crowded)
    first, second = uuid4(), uuid4()
    with crowded.writing() as connection:
        changes.note(connection, [first])
        changes.note(connection, [second])
    assert between(crowded, start) == [first, second]


def test_of_many_that_write_at_once_each_change_is_told_once(crowded) -> None:
    start = seen = changes.horizon(crowded)
    told: list[UUID] = []
    written: list[UUID] = []

    def write(writer: int) -> None:
        for number in range(25):
            written.extend(receipt.outcome_id for receipt in save(crowded, [call(f"{writer}-{number}")]))

    with crowded.writing() as held:
        changes.note(held, [held_open := uuid4()])
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            upto = changes.horizon(crowded)
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


def test_on_another_server_the_journal_begins_anew(crowded) -> None:
    assert not changes.renew(crowded, NOW)
    assert changes.renewed_at(crowded) == 0
    save(crowded, [call("before")])
    mark = changes.last(crowded, changes.horizon(crowded))
    assert changes.has(crowded, mark)
    ahead(crowded)
    assert changes.renew(crowded, NOW)
    assert not changes.renew(crowded, NOW)
    assert changes.renewed_at(crowded) == NOW.timestamp()
    assert not changes.has(crowded, mark)
    start = changes.horizon(crowded)
    [after] = save(crowded, [call("after")])
    assert between(crowded, start) == [after.outcome_id]


def test_a_journal_of_this_server_is_kept_whatever_is_under_way(crowded) -> None:
    save(crowded, [call("a")])
    with crowded.writing() as held:
        changes.note(held, [uuid4()])
        assert not changes.renew(crowded, NOW)
    assert not changes.renew(crowded, NOW)


def test_the_newest_change_is_known_again_until_it_is_another(database) -> None:
    """By its number and moment: numbers begin anew where a backup is restored."""
    save(database, [call("a")])
    mark = changes.last(database, changes.horizon(database))
    save(database, [call("b")])
    assert changes.has(database, mark)
    assert changes.last(database, changes.horizon(database)).id > mark.id
    assert not changes.has(database, mark._replace(changed_at=NOW))
    changes.prune(database, datetime.now(UTC) + timedelta(hours=1))
    assert not changes.has(database, mark)
    assert changes.has(database, changes.last(database, changes.horizon(database)))
