"""Acknowledged callbacks per second, compared with a view that does nothing and with a plain receiver."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.engines import each_engine
from tests.conftest import free_port

ROOT = Path(__file__).parent.parent
COMMAND = str(Path(sys.executable).parent / "plum-outcomes")
CONNECTIONS, WORKERS = 32, 2


@dataclass
class Server:
    """A server that responds to POST /result/KEY."""

    url: str
    process: subprocess.Popen

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes so far."""
        pids = [self.process.pid, *descendants(self.process.pid)]
        return sum(_cpu_seconds(pid) for pid in pids)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@dataclass
class Round:
    answers: int
    per_second: float
    p99_ms: float
    refused: int
    cpu_ms: float  # of the server, per answer


def run(seconds: float, rounds: int) -> None:
    for engine, new_store, directory in each_engine():
        url = new_store()
        with _servers(engine, url, directory) as servers:
            results = {name: [] for name in servers}
            for turn in range(rounds + 1):
                for name, server in servers.items():
                    measured = load(server, seconds if turn else 1, f"{engine}{turn}{name}")
                    if turn:  # the first turn is the warm-up
                        results[name].append(measured)
            _report(engine, results, servers["ours"])
            half = statistics.median(result.per_second for result in results["ours"]) / 2
            waits = {name: paced(servers[name], half, seconds) for name in ("noop", "ours")}
            print(f"  p99 at half that load: {waits['ours']:.1f} ms; noop at as many: {waits['noop']:.1f} ms")
            _check_counts(url, sum(result.answers for result in results["ours"]), servers["ours"])


def load(server: Server, seconds: float, label: str | None) -> Round:
    """Run wrk with as many connections as a busy sender has: posts with this label, or probes without one."""
    before = server.cpu_seconds()
    posts = ["-s", str(Path(__file__).parent / "post.lua"), server.url, "--", label] if label else [server.url]
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency", *posts]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answers = int(re.search(r"(\d+) requests in", text)[1])
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Round(
        answers=answers,
        per_second=float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),
        p99_ms=_milliseconds(re.search(r"^\s+99%\s+(\S+)", text, re.M)[1]),
        refused=int(refused[1]) if refused else 0,
        cpu_ms=(server.cpu_seconds() - before) / answers * 1000,
    )


def paced(server: Server, per_second: float, seconds: float) -> float:
    """Return the 99th percentile in ms of posts at a steady rate, each measured from its scheduled time."""
    command = [sys.executable, "-m", "bench.paced", server.url, f"{per_second:.0f}", f"{seconds:g}"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)


def _report(engine: str, results: dict[str, list[Round]], ours: Server) -> None:
    count = len(results["ours"])
    print(f"\n{engine}: {CONNECTIONS} connections, {WORKERS} workers, {count} rounds, medians (min to max)")
    for name, rounds in results.items():
        rates = [result.per_second for result in rounds]
        cpu = statistics.median(result.cpu_ms for result in rounds)
        p99 = statistics.median(result.p99_ms for result in rounds)
        refused = sum(result.refused for result in rounds)
        print(
            f"  {name:6} {statistics.median(rates):8.0f}/s ({min(rates):.0f} to {max(rates):.0f})"
            f"  p99 {p99:6.1f} ms  cpu {cpu:.3f} ms each  refused {refused}"
        )
    for other in ("noop", "plain", "raw"):
        ratios = [a.per_second / b.per_second for a, b in zip(results["ours"], results[other], strict=True)]
        print(f"  ours / {other}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    metrics = urllib.request.urlopen(ours.url.split("/result")[0] + "/metrics").read().decode()
    commits = float(re.search(r"plum_group_deliveries_count (\S+)", metrics)[1])
    grouped = float(re.search(r"plum_group_deliveries_sum (\S+)", metrics)[1])
    print(f"  deliveries per commit: {grouped / commits:.1f}")


def _check_counts(url: str, acknowledged: int, ours: Server) -> None:
    """Check that every acknowledged post is stored. Posts whose response wrk did not wait for may be stored too."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            stored = connection.execute("SELECT count(*) FROM deliveries").fetchone()[0]
    else:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            stored = connection.execute("SELECT count(*) FROM deliveries").fetchone()[0]
    print(f"  acknowledged in the rounds: {acknowledged}, stored in all: {stored}")
    assert stored >= acknowledged, "an acknowledged delivery is missing"
    assert ours.process.poll() is None


@contextlib.contextmanager
def _servers(engine: str, url: str, directory: Path) -> Iterator[dict[str, Server]]:
    service = ours(url, directory / f"spool-{engine}")
    environment, path = (
        environment_of(url, directory / f"spool-{engine}"),
        f"/result/{service.url.rpartition('/')[2]}",
    )
    other = f"sqlite:///{directory / 'plain.db'}" if engine == "sqlite" else url
    servers = {
        "noop": _start_reference("noop", environment, other, path),
        "plain": _start_reference("plain", environment, other, path),
        "raw": _start_reference("raw", environment, other, path),
        "ours": service,
    }
    try:
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def ours(url: str, spool: Path) -> Server:
    """Start this service on its own store."""
    environment = environment_of(url, spool)
    subprocess.run([COMMAND, "migrate"], env=environment, check=True, stdout=subprocess.DEVNULL)
    output = subprocess.check_output([COMMAND, "integration", "add", "bench", "--json"], env=environment)
    path = f"/result/{json.loads(output)['key']}"
    return _start([COMMAND, "serve", "--workers", str(WORKERS), "--bind"], environment, path)


def environment_of(url: str, spool: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PLUM_")}
    copy = spool.with_name(f"{spool.name}.duckdb")
    return environment | {
        "PLUM_DATABASE_URL": url,
        "PLUM_SPOOL_DIR": str(spool),
        "PLUM_ANALYTICS_PATH": str(copy),
    }


def _start_reference(name: str, environment: dict[str, str], url: str, path: str) -> Server:
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", str(WORKERS), "--keep-alive", "75"]
    command += ["--no-control-socket", "bench.references:app", "-b"]
    return _start(command, environment | {"BENCH_APP": name, "BENCH_DATABASE_URL": url}, path)


def _start(command: list[str], environment: dict[str, str], path: str) -> Server:
    port = free_port()
    process = subprocess.Popen(
        [*command, f"127.0.0.1:{port}"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
            break
        except urllib.error.HTTPError:  # a response, so a worker is up
            break
        except OSError:
            assert time.monotonic() < deadline, command
            time.sleep(0.05)
    time.sleep(1.5)  # until the other workers have started
    return Server(f"http://127.0.0.1:{port}{path}", process)


def descendants(pid: int) -> list[int]:
    result = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [process for child in map(int, result.stdout.split()) for process in (child, *descendants(child))]


def _cpu_seconds(pid: int) -> float:
    values = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def _milliseconds(text: str) -> float:
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]
