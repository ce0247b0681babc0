"""Roll-ups are kept up to date while the service runs, and wait for a store that is away."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text

from app import roller
from app.errors import StoreUnavailable
from app.interpret import interpret
from app.model import Delivery
from app.roller import Roller
from app.store.arrivals import Arrivals
from app.store.database import Database
from app.store.readings import save
from app.store.rollups.standing import lag
from app.store.schema import rollups
from tests.conftest import wait_until


@pytest.fixture
def database(store_url):
    database = Database(store_url)
    yield database
    database.close()


def test_what_has_come_is_rolled_up_and_the_lag_tells(database, monkeypatch) -> None:
    monkeypatch.setattr(roller, "PAUSE_SECONDS", 0.01)
    stop = threading.Event()
    moments = (datetime(2026, 3, 8, tzinfo=UTC) + timedelta(minutes=at) for at in count())  # all is quiet soon
    thread = threading.Thread(target=Roller(database, lambda: next(moments)).run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: lag(database, datetime.now(UTC)).filled)
        body = b"result=Completed&call_id=1"
        delivery = Delivery(id=uuid4(), integration="i", received_at=datetime.now(UTC), body=body)
        save(database, [interpret(delivery)])
        wait_until(lambda: _spans(database) == 3)
        wait_until(lambda: lag(database, datetime.now(UTC)).seconds == 0)
    finally:
        stop.set()
        thread.join()


def _spans(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(rollups)).scalar_one())


@pytest.mark.parametrize("are_many", [True, False])
def test_it_rests_between_steps_only_while_callbacks_come(database, monkeypatch, are_many) -> None:
    monkeypatch.setattr(roller, "refresh", lambda *asked: True)
    monkeypatch.setattr(Arrivals, "are_many", lambda arrivals: are_many)
    assert (Roller(database, lambda: datetime.now(UTC))._step() > 0) == are_many


@pytest.mark.parametrize("failure", [StoreUnavailable("away"), ZeroDivisionError()])
def test_neither_a_store_that_is_away_nor_a_fault_ends_it(database, monkeypatch, failure) -> None:
    def away(*asked: object) -> None:
        raise failure

    monkeypatch.setattr(roller, "refresh", away)
    assert Roller(database, lambda: datetime.now(UTC))._step() == roller.PATIENCE_SECONDS


def test_none_is_made_for_the_schema_of_a_newer_program(database, monkeypatch) -> None:
    """It may want of them what this one does not know; left to questions, all is right."""
    made = []
    monkeypatch.setattr(roller, "refresh", lambda *asked: made.append(asked))
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert Roller(database, lambda: datetime.now(UTC))._step() == roller.PATIENCE_SECONDS
    assert not made
