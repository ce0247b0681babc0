"""Run a small campaign against the `result_url` on standard input; other users could read a command line's key."""

from __future__ import annotations

import secrets
import sys
from datetime import UTC, datetime, timedelta

from app.plum.simulator.campaign import Target, campaign
from app.plum.simulator.probing import probe
from app.plum.simulator.result_sender import run

CALLS = 200
CONCURRENCY = 8
TIMEOUT_SECONDS = 30.0


def main() -> None:
    target = Target.parse(sys.stdin.read().strip())
    probe(target)
    calls = campaign([target], CALLS, secrets.randbelow(2**31), base=datetime.now(UTC) - timedelta(days=1))
    run(calls, [], CONCURRENCY, lambda posted: None, TIMEOUT_SECONDS)


if __name__ == "__main__":
    main()
