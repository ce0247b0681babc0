"""The same queries to this service and to Datasette: `python -m bench.datasette DATASETTE [ROWS [FILE]]`.

DATASETTE is its command; it is not a dependency of ours: `python -m venv d && d/bin/pip install datasette`. Both
serve one SQLite file over HTTP: a new one with ROWS outcomes of a year, or FILE, which has that many. Our service is
measured once its copy is filled. Datasette's time limits are raised, since most responses would be errors otherwise;
its facet suggestions are off. Slow queries run once.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from app.store import pagination
from app.store.database import Database
from app.store.query.question import Order, Question, Records
from bench.fill import new_store
from bench.ingest import environment_of, ours
from bench.questions import Client
from tests.conftest import free_port

REPEATS = 7
PATIENCE_SECONDS = 120
LONG_SECONDS = 2
_RAISED_LIMITS = ("sql_time_limit_ms", "facet_time_limit_ms")

# The query to our service and the one to Datasette.
QUESTIONS = {
    "newest 100": ("outcomes?limit=100", ".json?_sort_desc=ended_at&_size=100&_nocount=1&_nosuggest=1"),
    "one status, newest 100": (
        "outcomes?limit=100&status=failed",
        ".json?status__exact=failed&_sort_desc=ended_at&_size=100&_nocount=1&_nosuggest=1",
    ),
    "three months of one product, newest 100": (
        "outcomes?limit=100&product=fuse&since={since}",
        ".json?product__exact=fuse&ended_at__gte={since}&_sort_desc=ended_at&_size=100&_nocount=1&_nosuggest=1",
    ),
    "one phone number": (
        "outcomes?limit=100&phone_number={phone}",
        ".json?phone_number__exact={phone}&_sort_desc=ended_at&_size=100&_nocount=1&_nosuggest=1",
    ),
    "part of a phone number, a week": (
        "outcomes?limit=100&phone_number__contains={part}&since={week}",
        ".json?phone_number__contains={part}&ended_at__gte={week}&_sort_desc=ended_at&_size=100&_nocount=1&_nosuggest=1",
    ),
    "count of one status": (
        "outcomes?limit=1&status=failed&count=exact",
        ".json?status__exact=failed&_size=1&_nofacet=1&_nosuggest=1",
    ),
    "facets of status and product": (
        "facets?fields=status,product",
        ".json?_facet=status&_facet=product&_size=1&_nosuggest=1",
    ),
    "figures by day, New York, with p95": ("summary?group_by=day&tz=America/New_York", None),
    "CSV of 100,000 rows": (
        "outcomes.csv?since={last}",
        ".csv?_stream=on&_size=max&ended_at__gte={last}&_sort_desc=ended_at",
    ),
}


def run(datasette: str, rows: int, existing: Path | None) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        file = existing or directory / "outcomes.db"
        url = f"sqlite:///{file}"
        if not existing:
            new_store(url, rows)
        server = ours(url, directory / "spool")
        client = Client(server, environment_of(url, directory / "spool"), "reveal")
        print(f"the copy is filled {client.wait_for_copy():.1f} s after the service is up")
        year = 365 * 86400
        phone = _first_phone(url)
        values = {
            "phone": phone,
            "part": phone[-6:],
            "week": _day(time.time() - 7 * 86400),
            "since": _day(time.time() - year / 4),
            "last": _day(time.time() - year * 100_000 / rows),
        }
        with _served(datasette, file) as theirs:
            print(f"{rows} outcomes, median of {REPEATS}")
            for name, (our, their) in QUESTIONS.items():
                mine = _median(client.base + our.format(**values), client.headers)
                other = _median(theirs + their.format(**values), {}) if their else "has none"
                print(f"  {name:42} {mine:>12} {other:>12}")
        server.stop()


def _first_phone(url: str) -> str:
    """Return the phone number of the oldest call that has one, quoted for a URL."""
    database = Database(url)
    oldest = Question(records=Records.OUTCOMES, order=[Order("ended_at")])
    phone = next(row["phone_number"] for row in pagination.page(database, oldest).rows if row["phone_number"])
    database.close()
    return quote(phone)


@contextmanager
def _served(datasette: str, file: Path):
    port = free_port()
    limits = [part for name in _RAISED_LIMITS for part in ("--setting", name, "600000")]
    command = [datasette, "serve", str(file), "-p", str(port), *limits, "--setting", "max_csv_mb", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    base = f"http://127.0.0.1:{port}/{file.stem}/outcomes"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(
                    f"{base}.json?_size=1&_nocount=1&_nosuggest=1", timeout=PATIENCE_SECONDS
                ).read()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        yield base
    finally:
        process.terminate()
        process.wait()


def _median(url: str, headers: dict[str, str]) -> str:
    is_export = ".csv" in url
    durations = []
    for _ in range(2 if is_export else REPEATS):
        began = time.perf_counter()
        request = urllib.request.Request(url, headers=headers)
        try:
            body = urllib.request.urlopen(request, timeout=PATIENCE_SECONDS).read()
        except (urllib.error.URLError, TimeoutError) as error:
            return f"no: {error}"[:40]
        durations.append(time.perf_counter() - began)
        lines = body.count(b"\n")
        if durations[-1] > LONG_SECONDS:
            break
    seconds = statistics.median(durations)
    if is_export:
        return f"{lines / seconds / 1000:.1f}k rows/s"
    return f"{seconds * 1000:.1f} ms"


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


if __name__ == "__main__":
    run(
        sys.argv[1],
        int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000,
        Path(sys.argv[3]) if len(sys.argv) > 3 else None,
    )
