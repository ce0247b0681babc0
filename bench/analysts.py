"""The effect of analysts on callbacks' latency: `python -m bench.analysts [ROWS] [SECONDS] [ROUNDS] [ENGINE …]`.

Posts arrive at a steady 200 a second, in turn alone and beside four analysts who send queries without pause. The
analytical copy is updated meanwhile; its lag is read from /metrics each second.
"""

from __future__ import annotations

import itertools
import re
import statistics
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.engines import ENGINES, each_engine
from bench.fill import new_store
from bench.ingest import Server, environment_of, ours, paced
from bench.questions import QUESTIONS, Client

PER_SECOND = 200
ANALYSTS = 4


def run(rows: int, seconds: float, rounds: int, engines: tuple[str, ...]) -> None:
    for engine, new, directory in each_engine(engines):
        _measure(engine, new(), directory, rows, seconds, rounds)


def _measure(engine: str, url: str, directory: Path, rows: int, seconds: float, rounds: int) -> None:
    new_store(url, rows)
    spool = directory / f"spool-{engine}"
    server = ours(url, spool)
    try:
        client = Client(server, environment_of(url, spool), "reveal")
        client.wait_for_copy()
        alone, beside, query_seconds = [], [], []
        with _lags(server) as lags:
            for _ in range(rounds):
                alone.append(paced(server, PER_SECOND, seconds))
                with _querying(client) as times:
                    beside.append(paced(server, PER_SECOND, seconds))
                query_seconds += times
        shares = [busy / idle for busy, idle in zip(beside, alone, strict=True)]
        print(f"\n{engine}: {rows} outcomes, {PER_SECOND} posts/s, {rounds} rounds of {seconds:g} s, medians")
        print(f"  p99 of posts: alone {statistics.median(alone):.1f} ms, beside {statistics.median(beside):.1f} ms")
        print(f"  beside / alone: {statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})")
        high = sorted(query_seconds)[int(len(query_seconds) * 0.95)]
        print(f"  questions: {len(query_seconds)}, p50 {statistics.median(query_seconds):.2f} s, p95 {high:.2f} s")
        print(f"  lag of the copy: median {statistics.median(lags):.2f} s, most {max(lags):.2f} s", flush=True)
    finally:
        server.stop()


@contextmanager
def _querying(client: Client) -> Iterator[list[float]]:
    """Run analysts who send a query as soon as the last is answered; yield the seconds of each, also of refusals."""
    stop, times = threading.Event(), []
    paths = [path for path in QUESTIONS.values() if "{" not in path]

    def ask(first: int) -> None:
        for path in itertools.cycle(paths[first:] + paths[:first]):
            if stop.is_set():
                return
            began = time.perf_counter()
            try:
                client.get(path)
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
            times.append(time.perf_counter() - began)

    threads = [threading.Thread(target=ask, args=(number * len(paths) // ANALYSTS,)) for number in range(ANALYSTS)]
    for thread in threads:
        thread.start()
    yield times
    stop.set()
    for thread in threads:
        thread.join()


@contextmanager
def _lags(server: Server) -> Iterator[list[float]]:
    """Read the lag of the copy each second; yield the list of lags in seconds."""
    stop, lags = threading.Event(), []

    def read() -> None:
        while not stop.wait(1):
            metrics = urllib.request.urlopen(server.url.split("/result")[0] + "/metrics").read().decode()
            lags.append(float(re.search(r"^plum_analytics_lag_seconds(?:{.*})? (\S+)", metrics, re.M)[1]))

    thread = threading.Thread(target=read)
    thread.start()
    yield lags
    stop.set()
    thread.join()


if __name__ == "__main__":
    arguments = [float(text) for text in sys.argv[1:4]]
    rows, seconds, rounds = [*arguments, *(1_000_000, 10, 3)[len(arguments) :]]
    run(int(rows), seconds, int(rounds), tuple(sys.argv[4:]) or ENGINES)
