"""Lists of numbers that must not be dialled, however long."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import event

from app.store import do_not_call
from app.store.database import Database

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)
MANY = 70_000  # more than one statement may have parameters


def test_a_long_list_is_added_once_and_removed(database: Database) -> None:
    numbers = [f"+1617{number:07}" for number in range(MANY)]
    assert do_not_call.add(database, [*numbers, *numbers], NOW) == MANY
    assert do_not_call.add(database, [*numbers[:2], "+16175559999999"], NOW) == 1
    assert do_not_call.remove(database, numbers) == MANY
    assert do_not_call.remove(database, []) == 0


def test_no_writer_has_to_wait_until_a_long_list_is_added_or_removed(database: Database) -> None:
    numbers = [f"+1617{number:07}" for number in range(5 * do_not_call.AT_ONCE)]
    commits: list[object] = []
    event.listen(database.engine, "commit", commits.append)
    do_not_call.add(database, numbers, NOW)
    assert len(commits) == 5
    do_not_call.remove(database, numbers)
    assert len(commits) == 10
