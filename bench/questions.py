"""The time of queries over HTTP: `python -m bench.questions [ROWS] [ROUNDS] [DAYS] [ENGINE …]`, on both engines.

Each engine's store has ROWS outcomes over DAYS days (default: a year), of 3 integrations and 30 batches, with
durations from 0 to 600 s. It is filled before the service starts, so the time to fill the copy is measured too.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.engines import ENGINES, each_engine
from bench.fill import new_store
from bench.ingest import COMMAND, Server, descendants, environment_of, ours

DEEP_PAGES = 200
FACETS = "integration,product,batch,status,disposition,callee_type,answered_by"
MONTH = (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%d")
QUESTIONS = {
    "count of one status": "outcomes?limit=1&status=failed&count=exact",
    "facets of seven fields": f"facets?fields={FACETS}",
    "every figure": "summary",
    "every figure by day, UTC": "summary?group_by=day",
    "every figure by day, New York": "summary?group_by=day&tz=America/New_York",
    "every figure by day and status": "summary?group_by=day,status",
    "every figure by batch": "summary?group_by=batch",
    "part of a phone number, of all": "outcomes?limit=100&phone_number__contains=12345",
    "part of a phone number, of a month": f"outcomes?limit=100&phone_number__contains=12345&since={MONTH}",
    "part of the events, of all": "outcomes?limit=100&events__contains=zzz",
    "newest 100 of a rare status": "outcomes?limit=100&status=rejected",
    "first 100 by duration": "outcomes?limit=100&sort=-duration_seconds",
    "newest 100": "outcomes?limit=100",
    "one phone number": "outcomes?limit=100&phone_number=%2B16170007919",
    "one reference": "outcomes?limit=100&reference={reference}",
    "one call id": "outcomes?limit=100&call_id=1",
    "what nobody knew": "drift",
}


class Client:
    """An API client of a service that has just been started."""

    def __init__(self, server: Server, environment: dict[str, str], scope: str) -> None:
        output = subprocess.check_output(
            [COMMAND, "token", "add", scope, "--scope", scope, "--json"], env=environment
        )
        self.headers = {"Authorization": f"Bearer {json.loads(output)['token']}"}
        self.base = f"{server.url.split('/result')[0]}/api/v1/"

    def get(self, path: str) -> dict:
        with self.opened(path) as response:
            return json.load(response)

    def opened(self, path: str):
        return urllib.request.urlopen(urllib.request.Request(self.base + path, headers=self.headers))

    def wait_for_copy(self) -> float:
        """Wait until the copy is filled; return the seconds."""
        began = time.perf_counter()
        while True:
            try:
                self.get("summary")
                return time.perf_counter() - began
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                time.sleep(0.2)


def run(rows: int, rounds: int, days: int, engines: tuple[str, ...] = ENGINES) -> None:
    for engine, new, directory in each_engine(engines):
        measure(engine, new(), directory, rows, rounds, days)


def measure(engine: str, url: str, directory: Path, rows: int, rounds: int, days: int) -> None:
    began = time.monotonic()
    new_store(url, rows, days)
    print(f"\n{engine}: {rows} outcomes of {days} days, written in {time.monotonic() - began:.0f} s")
    spool = directory / f"spool-{engine}"
    environment = environment_of(url, spool)
    server = ours(url, spool)
    try:
        client = Client(server, environment, "reveal")
        print(f"  the copy is filled {client.wait_for_copy():.1f} s after the service is up")
        print(f"  p50 and p95 of {rounds} rounds")
        newest = client.get("outcomes?limit=100")["data"]
        reference = next(row["reference"] for row in newest if row["reference"])
        for name, form in QUESTIONS.items():
            path = form.format(reference=reference)
            _report(name, [_seconds(lambda path=path: client.get(path)) for _ in range(rounds)])
        _report(f"page {DEEP_PAGES} of a status", _pages(client)[-rounds:])
        lags = [*_lags(server, client, rounds)]
        _report("one just posted, counted", [first for first, _ in lags])
        _report("the same again, nothing posted", [second for _, second in lags])
        masked = Client(server, environment, "read")
        first_byte, per_second = zip(*(_export(masked) for _ in range(min(rounds, 3))), strict=True)
        _report("first byte of outcomes.csv, masked", list(first_byte))
        print(f"  {'outcomes.csv, masked':36} {statistics.median(per_second):8.0f} rows/s")
        print(
            f"  memory of the copy's process: {_copy_mib(server, Path(environment['PLUM_ANALYTICS_PATH'])):.0f} MiB"
        )
    finally:
        server.stop()


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _report(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    high = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    print(f"  {name:36} {statistics.median(times) * 1000:8.1f} ms {high * 1000:8.1f} ms", flush=True)


def _pages(client: Client) -> list[float]:
    """Return the seconds of each page of a list whose ids come from the copy."""
    times, path = [], "outcomes?limit=100&status=failed"
    while path and len(times) < DEEP_PAGES:
        began = time.perf_counter()
        page = client.get(path)
        times.append(time.perf_counter() - began)
        path = page["next"] and page["next"].rpartition("/")[2]
    return times


def _lags(server: Server, client: Client, rounds: int) -> Iterator[tuple[float, float]]:
    for turn in range(rounds):
        body = f"call_id=lag-{turn}&result=Completed&callee_type=voice&phone_number=6175551234&attempts=1"
        urllib.request.urlopen(server.url, body.encode()).read()
        path = f"summary?call_id=lag-{turn}"
        began = time.perf_counter()
        [figures] = client.get(path)["data"]
        yield time.perf_counter() - began, _seconds(lambda path=path: client.get(path))
        assert figures["count"] == 1, "what was acknowledged is not counted"


def _export(client: Client) -> tuple[float, float]:
    """Return the seconds to the first byte, and the rows per second."""
    began = time.perf_counter()
    with client.opened("outcomes.csv") as response:
        lines = response.read(1).count(b"\n")
        first_byte = time.perf_counter() - began
        while block := response.read(1 << 20):
            lines += block.count(b"\n")
    return first_byte, (lines - 1) / (time.perf_counter() - began)


def _copy_mib(server: Server, copy: Path) -> float:
    """Return the proportional set size (PSS) of the process that has the copy's file open."""
    for pid in descendants(server.process.pid):
        if any(os.path.realpath(link) == str(copy.resolve()) for link in Path(f"/proc/{pid}/fd").iterdir()):
            memory = Path(f"/proc/{pid}/smaps_rollup").read_text()
            return int(next(line for line in memory.splitlines() if line.startswith("Pss:")).split()[1]) / 1024
    raise LookupError(copy)


if __name__ == "__main__":
    sizes = [int(text) for text in sys.argv[1:4]]
    run(*(sizes + [1_000_000, 10, 365][len(sizes) :]), tuple(sys.argv[4:]) or ENGINES)
