"""The command `doctor`, which checks the installation."""

from __future__ import annotations

import os

import click

from app import doctor as checks
from app.terminal import as_json, example, print_json, say


@click.command()
@as_json
@example("doctor")
def doctor(*, as_json: bool) -> None:
    """Check the whole installation and say what to mend."""
    results = checks.examine(os.environ)
    if as_json:
        print_json([{"part": check.part, "ok": check.ok, "says": check.says} for check in results])
    else:
        for check in results:
            say(f"{'ok  ' if check.ok else 'MEND'}  {check.part}: {check.says}")
    if not all(check.ok for check in results):
        raise SystemExit(1)
