"""The time and size of the analysts' pages: `python -m bench.pages [ROWS] [ROUNDS] [DAYS] [ENGINE …]`.

Requests each page as a signed-in browser does, on a store with ROWS outcomes over DAYS days.
"""

from __future__ import annotations

import statistics
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

from bench.engines import ENGINES, each_engine
from bench.fill import new_store
from bench.ingest import environment_of, ours
from bench.questions import MONTH, Client

PAGES = {
    "overview, 30 days": "/",
    "overview, 7 days, New York": "/?period=7-days&tz=America/New_York",
    "overview, a year": "/?period=year",
    "list, newest": "/calls",
    "list, of a status": "/calls?status=failed",
    "list, of a month and a batch": f"/calls?since={MONTH}&batch=batch-7",
    "list, of an hour of the week": "/calls?weekday=mon&hour=9&tz=America/New_York",
    "list, by duration": "/calls?sort=-duration_seconds",
    "list, part of a number": f"/calls?phone_number__contains=12345&since={MONTH}",
    "search for a reference": "/search?q={reference}",
    "search for a part of one": "/search?q=4711",
    "one call": "/calls/{id}",
    "attention": "/attention",
    "set-up": "/setup",
}


def run(rows: int, rounds: int, days: int, engines: tuple[str, ...] = ENGINES) -> None:
    for engine, new, directory in each_engine(engines):
        url = new()
        new_store(url, rows, days)
        print(f"\n{engine}: {rows} outcomes of {days} days")
        measure(engine, url, directory, rounds)


def measure(engine: str, url: str, directory: Path, rounds: int) -> None:
    spool = directory / f"spool-{engine}"
    server = ours(url, spool)
    try:
        client = Client(server, environment_of(url, spool), "admin")
        client.wait_for_copy()
        newest = client.get("outcomes?limit=100")["data"]
        values = {"id": newest[0]["id"], "reference": next(row["reference"] for row in newest if row["reference"])}
        print(f"  p50 and p95 of {rounds} rounds, and the page's bytes")
        for name, path in PAGES.items():
            _report(name, [_page(client, path.format(**values)) for _ in range(rounds + 1)][1:])
        _report("told to an open page", _arrivals(client, server.url, rounds))
    finally:
        server.stop()


def _page(client: Client, path: str) -> tuple[float, int]:
    """Request the page; return the seconds and the bytes."""
    base, token = client.base.removesuffix("/api/v1/"), client.headers["Authorization"].split()[1]
    began = time.perf_counter()
    with urllib.request.urlopen(
        urllib.request.Request(base + path, headers={"Cookie": f"plum_token={token}"})
    ) as page:
        body = page.read()
    return time.perf_counter() - began, len(body)


def _arrivals(client: Client, result_url: str, rounds: int) -> list[tuple[float, int]]:
    """Return the seconds from a result's acknowledgement until its event on an open page, and the event's bytes."""
    arrivals = []
    request = urllib.request.Request(f"{client.base}live", headers=client.headers)
    with urllib.request.urlopen(request, timeout=30) as stream:
        lines = iter(stream.readline, b"")
        next(line for line in lines if line.startswith(b"id:"))  # no event is missed after this one
        for number in range(rounds):
            body = urlencode({"call_id": f"told-{time.time_ns()}-{number}", "result": "Completed"}).encode()
            with urllib.request.urlopen(result_url, body) as response:
                response.read()
            began = time.perf_counter()
            event = next(line for line in lines if line.startswith(b"data:"))
            arrivals.append((time.perf_counter() - began, len(event)))
    return arrivals


def _report(name: str, measurements: list[tuple[float, int]]) -> None:
    times = sorted(seconds for seconds, _ in measurements)
    high = times[min(len(times) - 1, int(len(times) * 0.95))]
    sizes = f"{max(size for _, size in measurements) / 1000:6.1f} kB"
    print(f"  {name:36} {statistics.median(times) * 1000:8.1f} ms {high * 1000:8.1f} ms {sizes}", flush=True)


if __name__ == "__main__":
    options = [*map(int, sys.argv[1:4]), *(1_000_000, 20, 365)[len(sys.argv[1:4]) :]]
    run(*options, engines=tuple(sys.argv[4:]) or ENGINES)
