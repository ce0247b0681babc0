"""Whether callbacks come in: told from the store, whoever takes them."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from app.interpret import interpret
from app.model import Delivery
from app.store import arrivals
from app.store.arrivals import Arrivals
from app.store.readings import save


def take(database, count: int) -> None:
    now = datetime.now(UTC)
    bodies = [f"result=Completed&callee_type=voice&phone_number=6175551234&call_id={uuid4()}" for _ in range(count)]
    save(
        database,
        [
            interpret(Delivery(id=uuid4(), integration="a", received_at=now, body=body.encode(), content_type=None))
            for body in bodies
        ],
    )


def test_what_was_there_before_does_not_count_and_what_comes_since_does(database, monkeypatch) -> None:
    take(database, 300)
    clock = [100.0]
    monkeypatch.setattr(arrivals.time, "monotonic", lambda: clock[0])
    told = Arrivals(database)
    assert not told.are_many()
    clock[0] += 1
    assert not told.are_many()
    take(database, 300)
    clock[0] += 1
    assert told.are_many()
    clock[0] += 1
    assert not told.are_many()


def test_few_are_not_many(database, monkeypatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(arrivals.time, "monotonic", lambda: clock[0])
    told = Arrivals(database)
    assert not told.are_many()
    take(database, 20)
    clock[0] += 1
    assert not told.are_many()
