"""The time of a scrape before and after many workers were replaced: `python -m bench.scrape [WORKERS] [OUTCOMES]`.

There are 20 integrations, each with all its series. Workers are killed in pairs, with a post after each pair. At the
end the metrics must count all posts.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import statistics
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from app.model import Product
from app.store.database import Database
from app.store.integrations import add_integration
from bench.engines import each_engine
from bench.fill import new_store
from bench.ingest import Server, descendants, ours

INTEGRATIONS, SCRAPES = 20, 300
BAR_MS = 20.0


def run(workers: int, outcomes: int) -> None:
    for _, new, directory in each_engine(["sqlite"]):
        url = new()
        if outcomes:
            new_store(url, outcomes)
        service = ours(url, directory / "spool")
        try:
            measure(service, _senders(service, url), workers, outcomes)
        finally:
            service.stop()


def measure(service: Server, senders: list[str], workers: int, outcomes: int) -> None:
    numbers = itertools.count()
    for sender in senders * 5:
        _post(sender, next(numbers))
    print(f"{INTEGRATIONS} integrations, {outcomes} outcomes stored before")
    _report(service, "2 workers since the start")
    replaced = 0
    while replaced < workers:
        replaced += _replace_workers(service)
        _post(senders[replaced % INTEGRATIONS], next(numbers))
    _report(service, f"{replaced} workers replaced")
    counts = re.findall(r"^plum_deliveries_total\{.*\} (\S+)$", _scrape(service), re.M)
    counted = sum(map(float, counts))
    assert counted == next(numbers), "a post is not counted, or twice"


def _senders(service: Server, url: str) -> list[str]:
    """Add the integrations and return the result_url of each."""
    database = Database(url)
    now = datetime.now(UTC)
    keys = [add_integration(database, f"line-{number}", Product.DEV, now) for number in range(1, INTEGRATIONS)]
    database.close()
    host = service.url.rpartition("/")[0]
    return [service.url, *(f"{host}/{key}" for key in keys)]


def _replace_workers(service: Server) -> int:
    """Kill all workers, wait until a new one responds, and return the number of killed workers."""
    workers = _workers(service)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    while not set(workers).isdisjoint(_workers(service)) or not _answers(service):
        time.sleep(0.01)
    return len(workers)


def _workers(service: Server) -> list[int]:
    """Return the workers, which are forks of the server's first process."""
    first = _command_line(service.process.pid)
    return [pid for pid in descendants(service.process.pid) if _command_line(pid) == first]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # the process has ended
        return b""


def _answers(service: Server) -> bool:
    try:
        urllib.request.urlopen(service.url, timeout=10).close()
    except OSError:
        return False
    return True


def _post(sender: str, number: int) -> None:
    body = f"result=Completed&callee_type=voice&phone_number=6175551234&attempts=1&duration=9&call_id=bench-{number}"
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(sender, body.encode(), timeout=10).close()
            return
        except OSError:  # the new worker is still starting
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _scrape(service: Server) -> str:
    return urllib.request.urlopen(service.url.split("/result")[0] + "/metrics", timeout=10).read().decode()


def _report(service: Server, when: str) -> None:
    durations = []
    for _ in range(SCRAPES):
        began = time.perf_counter()
        text = _scrape(service)
        durations.append((time.perf_counter() - began) * 1000)
        time.sleep(0.01)
    series = sum(1 for line in text.splitlines() if not line.startswith("#"))
    p95 = statistics.quantiles(durations, n=100)[94]
    print(
        f"  {when}: {series} series, {len(text) / 1000:.0f} kB, scrape p50 {statistics.median(durations):.1f} ms,"
        f" p95 {p95:.1f} ms (bar {BAR_MS:g})",
        flush=True,
    )


if __name__ == "__main__":
    arguments = [int(text) for text in sys.argv[1:]]
    run(*[*arguments, *(1000, 0)[len(arguments) :]])
