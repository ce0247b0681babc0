"""Starts of calls per second, each with a script filled in with the call's values, compared with results and probes.

`python -m bench.starts [SECONDS] [ROUNDS]`
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from bench import ingest
from bench.engines import each_engine
from bench.ingest import COMMAND, Server

LINE = "<prompt>{{ phone_number }} {{ call_id }} {{ message_reference }}</prompt>"
SCRIPT = f'<vxml version="2.1" xmlns="http://www.w3.org/2001/vxml"><form><block>{LINE * 20}</block></form></vxml>'


def run(seconds: float, rounds: int) -> None:
    for engine, new_store, directory in each_engine():
        service = scripted(new_store(), directory / f"spool-{engine}")
        try:
            measure(engine, service, seconds, rounds)
        finally:
            service.stop()


def scripted(url: str, spool: Path) -> Server:
    service = ingest.ours(url, spool)
    command = [COMMAND, "integration", "script", "bench", "-"]
    environment = ingest.environment_of(url, spool)
    subprocess.run(command, env=environment, input=SCRIPT, text=True, check=True, stdout=subprocess.DEVNULL)
    return service


def measure(engine: str, service: Server, seconds: float, rounds: int) -> None:
    start = Server(service.url.replace("/result/", "/start/"), service.process)
    for name, server, is_posted in (("starts", start, True), ("results", service, True), ("probes", service, False)):
        ingest.load(server, 1, f"warm{name}" if is_posted else None)
        results = [ingest.load(server, seconds, f"{engine}{name}{at}" if is_posted else None) for at in range(rounds)]
        rate = statistics.median(result.per_second for result in results)
        p99 = statistics.median(result.p99_ms for result in results)
        refused = sum(result.refused for result in results)
        print(f"{engine}: {name:8} {rate:8.0f}/s  p99 {p99:6.1f} ms  refused {refused}")


if __name__ == "__main__":
    arguments = [*sys.argv[1:], *("5", "3")[len(sys.argv) - 1 :]]
    run(float(arguments[0]), int(arguments[1]))
