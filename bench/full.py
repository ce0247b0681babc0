"""Ingest into a full store, compared with an empty one: `python -m bench.full [ROWS] [SECONDS] [ROUNDS]`."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from bench.engines import each_engine
from bench.fill import new_store
from bench.ingest import environment_of, load, ours
from bench.questions import Client


def run(rows: int, seconds: float, rounds: int) -> None:
    for engine, new, directory in each_engine():
        _compare(engine, [new(), new()], directory, rows, seconds, rounds)


def _compare(engine: str, urls: list[str], directory: Path, rows: int, seconds: float, rounds: int) -> None:
    began = time.monotonic()
    new_store(urls[1], rows)
    print(f"\n{engine}: {rows} outcomes filled in {time.monotonic() - began:.0f} s")
    empty, full = (ours(url, directory / f"spool-{engine}-{number}") for number, url in enumerate(urls))
    try:
        Client(full, environment_of(urls[1], directory / f"spool-{engine}-1"), "read").wait_for_copy()
        shares, costs = [], []
        for turn in range(rounds + 1):
            on_empty, on_full = (load(server, seconds, f"{engine}{turn}") for server in (empty, full))
            if turn:  # the first turn is the warm-up
                shares.append(on_full.per_second / on_empty.per_second)
                costs.append(on_full.cpu_ms / on_empty.cpu_ms)
                print(f"  empty {on_empty.per_second:.0f}/s, full {on_full.per_second:.0f}/s")
        print(f"  full / empty: {statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})")
        print(f"  processor time each, full / empty: {statistics.median(costs):.2f}")
    finally:
        empty.stop()
        full.stop()


if __name__ == "__main__":
    arguments = [float(text) for text in sys.argv[1:]]
    rows, seconds, rounds = [*arguments, *(5_000_000, 8, 5)[len(arguments) :]]
    run(int(rows), seconds, int(rounds))
