"""Analysts who ask much: posts do not feel it, and memory stays bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from tests.conftest import wait_until
from tests.system.conftest import Sender, Service, dev_body
from tests.system.faults import Load
from tests.system.test_faults_pressure import RESIDENT_BYTES, resident
from tests.system.test_strangers import FELT_SECONDS, SECONDS


@contextmanager
def asking(service: Service, count: int, **filters: object) -> Iterator[list[int]]:
    """So many ask without pause; the statuses that they get."""
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(service.get("outcomes", **filters).status)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def fill(sender: Sender, count: int) -> None:
    """So many outcomes, as large as one that was posted."""
    sender.assert_accepted(dev_body(note="x" * 500))
    made = (
        "gen_random_uuid()" if sender.service.database_url.startswith("postgresql") else "lower(hex(randomblob(16)))"
    )
    with sender.service.sql() as connection:
        row = connection.execute("SELECT * FROM outcomes LIMIT 1")
        columns = ", ".join(column[0] for column in row.description if column[0] != "id")
        connection.execute(
            f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) "
            f"INSERT INTO outcomes (id, {columns}) SELECT {made}, {columns} FROM outcomes, numbers"
        )
        sender.service.tell_journal(connection, sender.name)


def test_many_heavy_questions_are_not_felt_by_posts_and_some_are_refused_at_once(alone: Sender) -> None:
    service = alone.service
    fill(alone, 30_000)
    wait_until(lambda: service.get("summary").status == 200, 120)
    most = 0
    with (
        asking(service, 24, extra__contains="nowhere", sort="-attempts") as statuses,
        Load(alone, "kept", threads=4, pause=0.05) as kept,
    ):
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            most = max(most, resident(service, with_copy=False))
            time.sleep(0.5)
    assert set(statuses) <= {200, 503}
    assert 200 in statuses
    assert len(kept.posts) > 30
    assert [post for post in kept.posts if post.status != 200 or post.verdict == "spooled"] == []
    assert median(post.seconds for post in kept.posts) < FELT_SECONDS
    assert 0 < most < RESIDENT_BYTES
