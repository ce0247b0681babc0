"""Two operations at the same moment, in an order that the test chooses."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Table, event, select, text

from app.interpret import interpret
from app.model import Delivery, Product, Reading
from app.store.database import Database
from app.store.readings import save
from tests.conftest import wait_until
from tests.store.test_expected import NOON

LONG_ENOUGH_SECONDS = 0.3  # for an operation that neither ends nor waits for a lock: it looks again and again

_First = TypeVar("_First")
_Second = TypeVar("_Second")


class Gate:
    """Stops the first operation that comes to it."""

    def __init__(self) -> None:
        self._is_reached, self._is_open = threading.Event(), threading.Event()
        self._passing = threading.Lock()

    def stop(self) -> None:
        """Wait until the gate opens. Only the first caller waits."""
        if self._passing.acquire(blocking=False):
            self._is_reached.set()
            assert self._is_open.wait(30)

    def run(
        self, database: Database, first: Callable[[], _First], second: Callable[[], _Second]
    ) -> tuple[_First, _Second]:
        """The first stops at the gate; the second runs to its end, or until it waits for the first, which goes on."""
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(first)
            try:
                wait_until(lambda: self._is_reached.is_set() or one.done())
                assert self._is_reached.is_set(), f"ended before the gate: {one.exception()}"
                two = pool.submit(second)
                _wait_until_ended_or_blocked(database, two)
            finally:
                self._is_open.set()
            return one.result(30), two.result(30)


def _wait_until_ended_or_blocked(database: Database, operation: Future[Any]) -> None:
    blocked = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    deadline = time.monotonic() + LONG_ENOUGH_SECONDS
    while not operation.done() and time.monotonic() < deadline:
        with database.reading() as connection:
            if connection.execute(blocked).scalar_one():
                return
        time.sleep(0.01)


def before(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> Gate:
    """A gate before the first call of `owner`'s function."""
    gate, real = Gate(), getattr(owner, name)

    def stopped(*arguments: Any, **options: Any) -> Any:
        gate.stop()
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, stopped)
    return gate


def behind(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> Gate:
    """A gate behind the first call of `owner`'s function."""
    gate, real = Gate(), getattr(owner, name)

    def stopped(*arguments: Any, **options: Any) -> Any:
        result = real(*arguments, **options)
        gate.stop()
        return result

    monkeypatch.setattr(owner, name, stopped)
    return gate


def behind_statement(database: Database, pattern: str) -> Gate:
    """A gate behind the first statement that matches the pattern, within its transaction."""
    gate = Gate()

    def stop(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        if re.search(pattern, statement):
            gate.stop()

    event.listen(database.engine, "after_cursor_execute", stop)
    return gate


def before_commit(database: Database) -> Gate:
    """A gate before the end of the first transaction that writes or reads."""
    gate = Gate()
    event.listen(database.engine, "commit", lambda connection: gate.stop())
    return gate


def delivery(body: bytes, reference: str | None = None, **fields: Any) -> Delivery:
    fields = {"integration": "ours", "product": Product.INSIGHT} | fields
    return Delivery(uuid4(), body=body, received_at=NOON, reference=reference, **fields)


def received(database: Database, *given: Delivery) -> list[UUID | None]:
    """Store the deliveries as one group; return the ids of their outcomes."""
    return [receipt.outcome_id for receipt in save(database, [interpret(one) for one in given])]


def not_understood(database: Database, given: Delivery) -> None:
    """Store a delivery that an older program could not read."""
    save(database, [Reading(given, reason="not_understood", normaliser="0")])


def rows(database: Database, table: Table) -> list[Any]:
    with database.reading() as connection:
        return list(connection.execute(select(table)).all())
