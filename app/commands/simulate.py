"""The command `simulate`: plays Plum."""

from __future__ import annotations

import json
import secrets
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from app.plum import simulator
from app.terminal import as_json, example, print_values


@click.command()
@click.option("--calls", type=click.IntRange(1), default=100, show_default=True)
@click.option(
    "--result-url",
    "urls",
    multiple=True,
    required=True,
    metavar="[PRODUCT=]URL",
    help="May be given several times.",
)
@click.option("--start-url", metavar="URL", help="Asked for VoiceXML when a DEV call connects.")
@click.option("--seed", type=int, help="Repeat exactly.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=16, show_default=True)
@click.option("--misbehave", is_flag=True, help="Also duplicates, late ones, garbage, shared call ids.")
@click.option(
    "--expect",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what was sent; a null ended_at only the receiver knows.",
)
@as_json
@example("simulate --calls 1000 --result-url http://127.0.0.1:8000/result/KEY --seed 7")
def simulate(
    calls: int,
    urls: tuple[str, ...],
    start_url: str | None,
    seed: int | None,
    concurrency: int,
    expect: Path | None,
    *,
    misbehave: bool,
    as_json: bool,
) -> None:
    """Play Plum: probe the URLs, then post realistic results. A URL without a product gets calls of all three."""
    # The base is when the first call is queued; its retries and the calls behind it take hours.
    base = simulator.BASE if seed is not None else datetime.now(UTC) - timedelta(days=1)
    seed = secrets.randbelow(2**31) if seed is None else seed
    try:
        targets = [simulator.Target.parse(url) for url in urls]
        for target in targets:
            simulator.probe(target)
        if start_url:
            simulator.probe_start(start_url)
    except (ValueError, simulator.ProbeFailed) as error:
        raise click.ClickException(str(error)) from error
    made = simulator.campaign(targets, calls, seed, misbehave=misbehave, base=base)
    garbage = simulator.noise(targets, calls, seed) if misbehave else []
    starts = simulator.start(made, start_url, concurrency, timeout=30) if start_url else simulator.Starts(0, {})
    posts = sum(len(call.posts) for call in made) + len(garbage)
    with click.progressbar(length=posts, label="posting", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        summary = simulator.run(made, garbage, concurrency, bar.update, timeout=30)
    if expect:
        expect.write_text("".join(json.dumps(one) + "\n" for one in simulator.expectations(made)))
    started = {"started": starts.started, "not_started": dict(starts.failures)} if start_url else {}
    print_values({"calls": len(made), "seed": seed, **started, **summary.as_dict()}, as_json=as_json)
    if starts.failures:
        raise click.ClickException(f"{sum(starts.failures.values())} of {starts.started} calls got no VoiceXML 2.0")
    if summary.acknowledged != summary.posted:
        raise click.ClickException(
            f"{summary.posted - summary.acknowledged} of {summary.posted} posts were not acknowledged"
        )
