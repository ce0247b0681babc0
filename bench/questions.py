"""How long questions take: `python -m bench.questions [ROWS] [ROUNDS] [DAYS]`, on both engines.

Each on a store of so many outcomes over so many days, a year unless said, of 3 integrations and 30 batches, with
durations from 0 to 600 s: first as they are without roll-ups, then with all of them made; and then first pages under
a filter on each field (`bench.filters`).
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from app.store.answers.facets import facets
from app.store.answers.summary import FIELDS, summarise

from app.errors import TooSlow
from app.interpret import interpret
from app.model import Delivery
from app.plum import simulator
from app.store import schema_version
from app.store.answers import counts, pages
from app.store.database import Database
from app.store.query.questions import Condition, Operator, Order, Question, Records
from app.store.readings import save
from app.store.rollups import rolling
from bench import filters
from bench.fill import fill
from tests.conftest import new_cluster

TEMPLATES = 3000
NEW_YORK, KATHMANDU = ZoneInfo("America/New_York"), ZoneInfo("Asia/Kathmandu")


def run(rows: int, rounds: int, days: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        os.chmod(directory, 0o755)
        measure("sqlite", f"sqlite:///{directory / 'questions.db'}", rows, rounds, days)
        cluster = new_cluster(directory)
        try:
            measure("postgresql", cluster.create(), rows, rounds, days)
        finally:
            cluster.stop()


def measure(engine: str, url: str, rows: int, rounds: int, days: int) -> None:
    database = Database(url)
    schema_version.migrate(database)
    _add_templates(database)
    began = time.monotonic()
    fill(url, rows, days)
    print(f"\n{engine}: {rows} outcomes of {days} days filled in {time.monotonic() - began:.0f} s")
    _reject_three(database, rows)
    without = {name: _times(ask, min(rounds, 2)) for name, ask in questions(database).items()}
    began, longest = time.monotonic(), 0.0
    while True:
        step = time.monotonic()
        if not rolling.refresh(database, datetime.now(UTC), timedelta()):
            break
        longest = max(longest, time.monotonic() - step)
    print(f"  rolled up in {time.monotonic() - began:.0f} s, the longest step {longest * 1000:.0f} ms")
    print("  median, without roll-ups → with, slowest with")
    for name, ask in questions(database).items():
        times = _times(ask, rounds)
        print(f"  {name}: {_ms(without[name])} → {_ms(times)}, {max(times) * 1000:.0f} ms")
    filters.measure(database, rounds)
    database.close()


def questions(database: Database) -> dict[str, Callable[[], object]]:
    every = Question(records=Records.OUTCOMES)
    one_word = asking(Condition("status", Operator.EQUAL, ["completed"]))
    one_batch = asking(Condition("batch", Operator.EQUAL, ["batch-7"]))
    month = asking(Condition("ended_at", Operator.GTE, [datetime.now(UTC) - timedelta(days=30)]))
    rare = asking(Condition("status", Operator.EQUAL, ["rejected"]))
    nobody = asking(Condition("batch", Operator.EQUAL, ["nobody's"]))
    return {
        "estimated count of all": lambda: counts.estimate(database, every),
        "estimated count, status": lambda: counts.estimate(database, one_word),
        "estimated count, batch": lambda: counts.estimate(database, one_batch),
        "facets of status": lambda: facets(database, every, ["status"]),
        "facets of all seven fields": lambda: facets(database, every, FIELDS),
        "facets of six fields, one batch": lambda: facets(database, one_batch, [f for f in FIELDS if f != "batch"]),
        "summary by day, UTC": lambda: summarise(database, every, ["day"], UTC),
        "summary by day, New York": lambda: summarise(database, every, ["day"], NEW_YORK),
        "summary by day, Kathmandu": lambda: summarise(database, every, ["day"], KATHMANDU),
        "summary by month, New York": lambda: summarise(database, every, ["month"], NEW_YORK),
        "summary by hour of 30 days": lambda: summarise(database, month, ["hour"], NEW_YORK),
        "summary by day and status, New York": lambda: summarise(database, every, ["day", "status"], NEW_YORK),
        "summary by batch": lambda: summarise(database, every, ["batch"], UTC),
        "first page of a status": lambda: pages.page(database, one_word),
        "first page of a status that three have": lambda: pages.page(database, rare),
        "first page of a batch": lambda: pages.page(database, one_batch),
        "first page of a batch that nobody has": lambda: pages.page(database, nobody),
    }


def asking(condition: Condition) -> Question:
    newest = [Order("ended_at", descending=True)]
    return Question(records=Records.OUTCOMES, conditions=[condition], order=newest)


def _times(ask: Callable[[], object], rounds: int) -> list[float]:
    """How long each took; 10 s where it was stopped."""
    found = []
    for _ in range(rounds):
        began = time.monotonic()
        try:
            ask()
        except TooSlow:
            return [10.0]
        found.append(time.monotonic() - began)
    return found


def _ms(times: list[float]) -> str:
    return "stopped after 10 s" if times == [10.0] else f"{statistics.median(times) * 1000:.0f} ms"


def _add_templates(database: Database) -> None:
    """What `fill` copies: a campaign whose calls last up to ten minutes."""
    target = simulator.Target.parse("http://127.0.0.1/result/KEY")
    readings = []
    for number, story in enumerate(simulator.campaign([target], TEMPLATES, seed=1)):
        post = story.posts[-1]
        delivery = Delivery(
            id=uuid4(), integration=f"integration-{number % 3}", received_at=datetime.now(UTC), body=post.body,
            content_type=post.headers.get("Content-Type"), batch=f"batch-{number % 30}",
            reference=f"reference-{number}" if number % 5 == 0 else None,
        )  # fmt: skip
        readings.append(interpret(delivery))
    for start in range(0, len(readings), 200):
        save(database, readings[start : start + 200])
    with database.writing() as connection:
        random = "abs(random()) % 601" if database.is_sqlite else "floor(random() * 601)"
        connection.execute(sa.text(f"UPDATE outcomes SET duration_seconds = {random} WHERE duration_seconds > 0"))
        connection.execute(sa.text("UPDATE outcomes SET status = 'failed' WHERE status = 'rejected'"))


def _reject_three(database: Database, rows: int) -> None:
    calls = ", ".join(f"'{rows * share // 100}'" for share in (5, 35, 65))
    with database.writing() as connection:
        connection.execute(sa.text(f"UPDATE outcomes SET status = 'rejected' WHERE call_id IN ({calls})"))


if __name__ == "__main__":
    arguments = [int(one) for one in sys.argv[1:]]
    run(*(arguments + [1_000_000, 9, 365][len(arguments) :]))
