"""The command `simulate`: plays Plum, either the sender of results or the platform where calls are queued."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from click.core import ParameterSource

from app.plum import simulator
from app.terminal import as_json, example, print_json, print_values, say

SHARE = click.FloatRange(0, 1)
SENDER_ALONE = ("calls", "urls", "start_url", "concurrency", "misbehave", "expect")
PLATFORM_ALONE = ("bind", "speed", "lose", "double", "late")


@click.command()
@click.option("--calls", type=click.IntRange(1), default=100, show_default=True)
@click.option("--result-url", "urls", multiple=True, metavar="[PRODUCT=]URL", help="May be given several times.")
@click.option("--start-url", metavar="URL", help="URL requested for VoiceXML when a DEV call connects.")
@click.option("--seed", type=int, help="Seed of the random numbers; the same seed gives the same calls.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=16, show_default=True)
@click.option("--misbehave", is_flag=True, help="Also post duplicates, late results, garbage and shared call ids.")
@click.option(
    "--expect",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the expected outcomes to this file; only the receiver knows a null ended_at.",
)
@click.option("--platform", is_flag=True, help="Serve Plum's own APIs on loopback instead, until it is stopped.")
@click.option(
    "--bind", metavar="HOST:PORT", default="127.0.0.1:8100", show_default=True, help="Address of --platform."
)
@click.option(
    "--speed",
    type=click.FloatRange(0.01, 1e6),
    default=60,
    show_default=True,
    help="How many seconds of a call pass in one real second.",
)
@click.option("--lose", type=SHARE, default=0, help="Share of results that --platform never posts.")
@click.option("--double", type=SHARE, default=0, help="Share that it posts twice.")
@click.option("--late", type=SHARE, default=0, help="Share that it posts an hour late, by the call's clock.")
@as_json
@example(
    "simulate --calls 1000 --result-url http://127.0.0.1:8000/result/KEY --seed 7\n"
    "  plum-outcomes simulate --platform --speed 3600 --lose 0.05"
)
@click.pass_context
def simulate(
    context: click.Context,
    calls: int,
    urls: tuple[str, ...],
    start_url: str | None,
    seed: int | None,
    concurrency: int,
    expect: Path | None,
    bind: str,
    speed: float,
    lose: float,
    double: float,
    late: float,
    *,
    misbehave: bool,
    platform: bool,
    as_json: bool,
) -> None:
    """Play Plum: probe the URLs, then post realistic results. A URL without a product gets calls of all three."""
    _check_options(context, SENDER_ALONE if platform else PLATFORM_ALONE, platform=platform)
    actual_seed = secrets.randbelow(2**31) if seed is None else seed
    if platform:
        _serve(bind, actual_seed, speed, lose, double, late, as_json=as_json)
        return
    # The first call is queued at the base time; its retries and the later calls take hours.
    base = simulator.BASE if seed is not None else datetime.now(UTC) - timedelta(days=1)
    targets = _probed_targets(urls, start_url)
    simulated = simulator.campaign(targets, calls, actual_seed, misbehave=misbehave, base=base)
    garbage = simulator.noise(targets, calls, actual_seed) if misbehave else []
    starts = simulator.start(simulated, start_url, concurrency, timeout=30) if start_url else simulator.Starts(0, {})
    posts = sum(len(call.posts) for call in simulated) + len(garbage)
    with click.progressbar(length=posts, label="posting", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        summary = simulator.run(simulated, garbage, concurrency, bar.update, timeout=30)
    if expect:
        expect.write_text("".join(json.dumps(call) + "\n" for call in simulator.expectations(simulated)))
    started = {"started": starts.started, "not_started": dict(starts.failures)} if start_url else {}
    print_values({"calls": len(simulated), "seed": actual_seed, **started, **summary.as_dict()}, as_json=as_json)
    if starts.failures:
        raise click.ClickException(f"{sum(starts.failures.values())} of {starts.started} calls got no VoiceXML 2.0")
    if summary.acknowledged != summary.posted:
        raise click.ClickException(
            f"{summary.posted - summary.acknowledged} of {summary.posted} posts were not acknowledged"
        )


def _probed_targets(urls: tuple[str, ...], start_url: str | None) -> list[simulator.Target]:
    try:
        targets = [simulator.Target.parse(url) for url in urls]
        for target in targets:
            simulator.probe(target)
        if start_url:
            simulator.probe_start(start_url)
    except (ValueError, simulator.ProbeFailed) as error:
        raise click.ClickException(str(error)) from error
    return targets


def _check_options(context: click.Context, others: tuple[str, ...], *, platform: bool) -> None:
    """Raise UsageError for options of the other mode, and for a sender without a result URL."""
    for param in context.command.params:
        if param.name in others and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{param.opts[0]} goes {'without' if platform else 'with'} --platform", context)
    if not platform and not context.params["urls"]:
        raise click.UsageError("give --result-url, or --platform to serve Plum's own APIs", context)


def _serve(bind: str, seed: int, speed: float, lose: float, double: float, late: float, *, as_json: bool) -> None:
    # Imported here, since loading Flask takes longer than sending a campaign.
    from app.plum.simulator.http_server import serve
    from app.plum.simulator.platform import Behaviour

    def tell(settings: Mapping[str, str]) -> None:
        if as_json:
            print_json({"seed": seed, **settings})
            return
        address = settings["PLUM_DEV_URL"].removesuffix("/dev")
        say(f"# Plum's APIs, on loopback; seed {seed}. What really happened: {address}/truth")
        for name, value in settings.items():
            say(f"export {name}={value}")

    try:
        serve(bind, Behaviour(seed, speed, lose, double, late), tell)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{bind} cannot be had: {error.strerror or error}") from error
