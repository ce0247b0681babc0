"""The effect of expected calls on ingest: `python -m bench.expected [CALLS] [SECONDS] [ROUNDS] [ENGINE …]`.

Runs the same load in turn on a store without expected calls, on one that expects CALLS other calls, and on one that
expects each posted call.
"""

from __future__ import annotations

import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path

from app.identity import expected_id
from app.model import CallState, ExpectedCall
from app.store import expected
from app.store.database import Database
from bench.engines import ENGINES, each_engine
from bench.ingest import load, ours

WAYS = ("none", "others", "each")


def run(calls: int, seconds: float, rounds: int, engines: tuple[str, ...]) -> None:
    for engine, new_store, directory in each_engine(engines):
        _measure(engine, [new_store() for _ in WAYS], directory, calls, seconds, rounds)


def _measure(engine: str, urls: list[str], directory: Path, calls: int, seconds: float, rounds: int) -> None:
    servers = {way: ours(url, directory / f"{engine}-{way}") for way, url in zip(WAYS, urls, strict=True)}
    stores = dict(zip(WAYS, urls, strict=True))
    try:
        _expect(stores["others"], "others", calls)
        rates = {way: [] for way in WAYS}
        for turn in range(rounds + 1):
            _expect(stores["each"], f"{engine}{turn}", calls)
            for way, server in servers.items():
                measured = load(server, seconds if turn else 1, f"{engine}{turn}").per_second
                if turn:  # the first turn is the warm-up
                    rates[way].append(measured)
        print(f"\n{engine}: {calls} expected calls, {rounds} rounds of {seconds:g} s, medians (min to max)")
        for way, values in rates.items():
            shares = [rate / reference for rate, reference in zip(values, rates["none"], strict=True)]
            share = f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
            print(f"  {way:7} {statistics.median(values):8.0f}/s  ÷ none {share}", flush=True)
    finally:
        for server in servers.values():
            server.stop()


def _expect(url: str, label: str, count: int) -> None:
    """Register calls with the references that `post.lua` posts under this label."""
    now = datetime.now(UTC)
    references = [f"appt-{label}-0-{number}" for number in range(1, count + 1)]
    calls = [
        ExpectedCall(
            id=expected_id("bench", reference, None, None, None), integration="bench", reference=reference,
            call_id=None, phone_number=None, batch="spring", ends_at=None, metadata={"a": "b"},
            state=CallState.WAITING, registered_at=now,
        )
        for reference in references
    ]  # fmt: skip
    database = Database(url)
    expected.register(database, calls)
    database.close()


if __name__ == "__main__":
    arguments = [float(text) for text in sys.argv[1:4]]
    calls, seconds, rounds = [*arguments, *(30_000, 6, 4)[len(arguments) :]]
    run(int(calls), seconds, int(rounds), tuple(sys.argv[4:]) or ENGINES)
