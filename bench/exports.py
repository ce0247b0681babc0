"""The speed and memory of exports of whole stores, and their effect on ingest: `python -m bench.exports [ROWS]
[ROUNDS] [FORMAT …]`, on both engines.

The reference is the database's own tool (`sqlite3 -csv`, `psql \\copy`), which writes the same rows and columns in
the same order, but as stored: without formula guard, masking and RFC 3339. All run in turn, so that the ratios of a
round compare runs of the same time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.web.schemas import OutcomeSchema
from bench.engines import each_engine
from bench.fill import new_store
from bench.ingest import COMMAND, Server, environment_of, load, ours
from bench.questions import Client

FORMATS = ("csv", "ndjson", "parquet", "xlsx")
INGEST_SECONDS = 8
READ_BYTES = 1 << 20
SELECT = f"SELECT {', '.join(OutcomeSchema().fields)} FROM outcomes ORDER BY ended_at DESC, id"


def run(rows: int, rounds: int, forms: Sequence[str]) -> None:
    for engine, new, _ in each_engine():
        url = new()
        _measure(engine, url, _tool(url), rows, rounds, forms)


def _tool(url: str) -> list[str]:
    """Return the command by which the database's own tool writes the same rows and columns in the same order."""
    if url.startswith("sqlite"):
        return ["sqlite3", "-csv", "-header", url.removeprefix("sqlite:///"), SELECT]
    copy = f"\\copy ({SELECT}) TO STDOUT (FORMAT csv, HEADER)"
    return ["psql", "-q", url.replace("+psycopg", ""), "-c", copy]


def _measure(engine: str, url: str, tool: list[str], rows: int, rounds: int, forms: Sequence[str]) -> None:
    new_store(url, rows)
    with tempfile.TemporaryDirectory() as temporary:
        spool = Path(temporary) / "spool"
        environment = environment_of(url, spool)
        server = ours(url, spool)
        try:
            Client(server, environment, "reveal").wait_for_copy()
            print(f"\n{engine}: {rows} outcomes, {rounds} rounds, medians (min to max)")
            _rates(_ways(tool, server, environment, forms), rows, rounds)
            _memory(environment, forms)
            _beside(server, _token(environment, "reveal"), rounds)
        finally:
            server.stop()


# --- rates


def _ways(
    tool: list[str], server: Server, environment: dict[str, str], forms: Sequence[str]
) -> dict[str, Callable[[], object]]:
    """Return the exports to measure, the database's own tool first."""
    read, reveal = _token(environment, "read"), _token(environment, "reveal")
    ways: dict[str, Callable[[], object]] = {"the database's tool": lambda: _peak_kib(tool, environment)}
    ways |= {
        "csv over HTTP, reveal": lambda: _download(server, reveal),
        "csv over HTTP, read": lambda: _download(server, read),
    }
    for form in forms:
        ways[f"export --format {form} --reveal"] = lambda form=form: _export(environment, form, "--reveal")
        ways[f"export --format {form}"] = lambda form=form: _export(environment, form)
    return ways


def _rates(ways: dict[str, Callable[[], object]], rows: int, rounds: int) -> None:
    rates_by_name: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, export in ways.items():
            began = time.monotonic()
            export()
            rates_by_name[name].append(rows / (time.monotonic() - began))
    tool_rates = next(iter(rates_by_name.values()))
    for name, rates in rates_by_name.items():
        shares = [rate / tool_rate for rate, tool_rate in zip(rates, tool_rates, strict=True)]
        print(
            f"  {name:32} {statistics.median(rates):8.0f} rows/s"
            f"  ÷ tool {statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
        )


def _export(environment: dict[str, str], form: str, *more: str) -> int:
    return _peak_kib([COMMAND, "export", "--format", form, *more], environment)


def _peak_kib(command: list[str], environment: dict[str, str]) -> int:
    """Run the command to its end and return its peak resident memory."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return usage.ru_maxrss


def _download(server: Server, token: str) -> None:
    request = urllib.request.Request(_url(server), headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as response:
        while response.read(READ_BYTES):
            pass


def _url(server: Server) -> str:
    return f"{server.url.split('/result')[0]}/api/v1/outcomes.csv"


def _token(environment: dict[str, str], scope: str) -> str:
    output = subprocess.check_output(
        [COMMAND, "token", "add", f"{scope}-{time.monotonic_ns()}", "--scope", scope, "--json"], env=environment
    )
    return str(json.loads(output)["token"])


# --- memory


def _memory(environment: dict[str, str], forms: Sequence[str]) -> None:
    for form in forms:
        empty = _export(environment, form, "--reveal", "integration=nobody")
        whole = _export(environment, form, "--reveal")
        print(f"  memory, {form}: {empty / 1024:.0f} MiB for no row, {(whole - empty) / 1024:+.0f} MiB for all")


# --- ingest


def _beside(server: Server, token: str, rounds: int) -> None:
    shares = []
    for turn in range(rounds):
        alone = load(server, INGEST_SECONDS, f"alone{turn}").per_second
        with _exporting(server, token):
            shares.append(load(server, INGEST_SECONDS, f"beside{turn}").per_second / alone)
        print(f"  ingest alone {alone:.0f}/s, while an export runs {shares[-1] * alone:.0f}/s")
    print(
        f"  ingest while an export runs ÷ alone: {statistics.median(shares):.2f} "
        f"({min(shares):.2f} to {max(shares):.2f})"
    )


@contextmanager
def _exporting(server: Server, token: str) -> Iterator[None]:
    """Run exports over HTTP, one after the other."""
    stop = threading.Event()

    def download() -> None:
        while not stop.is_set():
            request = urllib.request.Request(_url(server), headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(request) as response:
                while not stop.is_set() and response.read1(READ_BYTES):
                    pass

    thread = threading.Thread(target=download)
    thread.start()
    time.sleep(1)  # until the export has started
    yield
    stop.set()
    thread.join()


if __name__ == "__main__":
    sizes = [int(text) for text in sys.argv[1:3]]
    run(*(sizes + [1_000_000, 5][len(sizes) :]), sys.argv[3:] or FORMATS)
