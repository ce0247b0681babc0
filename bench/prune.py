"""The effect of pruning on ingest: `python -m bench.prune [OUTCOMES] [SECONDS] [ROUNDS] [ENGINE …]`.

On a store with so many outcomes, all old enough to be pruned, runs the same load in turn alone and beside `prune`.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import func, select, update

from app.store.database import Database
from app.store.schema import outcomes
from bench.engines import ENGINES, each_engine
from bench.fill import new_store as filled_store
from bench.ingest import COMMAND, Server, environment_of, load, ours

STARTING_SECONDS = 2.0  # time for the command to start


def run(count: int, seconds: float, rounds: int, engines: tuple[str, ...]) -> None:
    for engine, new_store, directory in each_engine(engines):
        url, spool = new_store(), directory / f"spool-{engine}"
        filled_store(url, count, days=30)
        _age(url)
        server = ours(url, spool)
        try:
            _wait_for_copy(server)
            _measure(engine, url, spool, server, seconds, rounds)
        finally:
            server.stop()


def _measure(engine: str, url: str, spool: Path, server: Server, seconds: float, rounds: int) -> None:
    database = Database(url)
    shares, rates = [], []
    for turn in range(rounds + 1):
        alone = load(server, seconds if turn else 1, f"{engine}{turn}alone").per_second
        with _pruning(url, spool):
            before = _count(database)
            beside = load(server, seconds if turn else 1, f"{engine}{turn}beside").per_second
            pruned = before - _count(database)
        if turn:  # the first turn is the warm-up
            shares.append(beside / alone)
            rates.append(pruned / seconds)
    database.close()
    share = f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
    print(f"{engine}: beside pruning ÷ alone {share}; pruned {statistics.median(rates):.0f} outcomes/s", flush=True)


def _age(url: str) -> None:
    """Make all outcomes old, including the templates of the copies."""
    database = Database(url)
    with database.writing(60) as connection:
        connection.execute(update(outcomes).values(updated_at=outcomes.c.ended_at))
    database.close()


def _count(database: Database) -> int:
    """Return the number of outcomes that were filled in and not pruned yet."""
    with database.reading(60) as connection:
        statement = select(func.count()).where(outcomes.c.integration != "bench")
        return connection.execute(statement).scalar_one()


def _wait_for_copy(server: Server) -> None:
    metrics = f"{server.url.split('/result')[0]}/metrics"
    while b"plum_analytics_filled 1" not in urllib.request.urlopen(metrics).read():
        time.sleep(1)


@contextmanager
def _pruning(url: str, spool: Path) -> Iterator[None]:
    environment = environment_of(url, spool) | {"PLUM_RETAIN_OUTCOMES_DAYS": "1"}
    with subprocess.Popen(
        [COMMAND, "prune"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        time.sleep(STARTING_SECONDS)
        yield
        assert process.poll() is None, "nothing was left to prune: give more outcomes"
        os.kill(process.pid, signal.SIGINT)


if __name__ == "__main__":
    arguments = [float(text) for text in sys.argv[1:4]]
    count, seconds, rounds = [*arguments, *(200_000, 8, 4)[len(arguments) :]]
    run(int(count), seconds, int(rounds), tuple(sys.argv[4:]) or ENGINES)
