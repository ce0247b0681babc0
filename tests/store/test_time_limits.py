"""A question has its time, then fails in words; meanwhile and afterwards the store works as before."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.errors import TooSlow
from app.interpret import interpret
from app.model import Delivery
from app.store.readings import save
from tests.store.oracle import all_rows

FOREVER = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(3600)",
}


def test_a_query_that_takes_too_long_is_stopped_and_says_how_to_narrow_it(database, engine_name) -> None:
    with pytest.raises(TooSlow, match=r"longer than 0\.1 s.*since and until"), database.reading(0.1) as connection:
        connection.execute(text(FOREVER[engine_name]))
    before = len(all_rows(database))
    late = Delivery(id=uuid4(), integration="a", received_at=datetime.now(UTC), body=b"result=Completed&call_id=1")
    save(database, [interpret(late)])
    assert len(all_rows(database)) == before + 1


def test_an_interrupted_query_releases_its_resources(database, engine_name) -> None:
    """Garbage is collected seldom in a worker, and a page that was looked for too long may be large."""

    class Held:
        pass

    def ask() -> weakref.ref[Held]:
        held = Held()
        try:
            with database.reading(0.1) as connection:
                connection.execute(text(FOREVER[engine_name]))
        except TooSlow:
            return weakref.ref(held)
        raise AssertionError

    gc.disable()
    try:
        assert ask()() is None
    finally:
        gc.enable()


ASIDE = """
from gevent import monkey
monkey.patch_all()
import sys, gevent
from sqlalchemy import text
from app.errors import TooSlow
from app.store.database import Database

ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.005)
        ticks += 1

gevent.spawn(tick)
database = Database(sys.argv[1])
try:
    with database.reading(0.5) as connection:
        connection.execute(text(sys.argv[2]))
except TooSlow:
    print(ticks)
"""


def test_a_sqlite_query_does_not_block_the_process(tmp_path) -> None:
    command = [sys.executable, "-c", ASIDE, f"sqlite:///{tmp_path / 'outcomes.db'}", FOREVER["sqlite"]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 3
    assert done.stderr == ""
