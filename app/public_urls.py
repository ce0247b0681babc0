"""Where Plum and people reach the service: what is printed and shown for them to paste."""

from __future__ import annotations

import logging

from app.config import Settings

ADDRESS = "address"  # beside the spool: where `serve` listened last

log = logging.getLogger(__name__)


def result_url(settings: Settings, key: str) -> str:
    return f"{public_url(settings)}/result/{key}"


def start_url(settings: Settings, key: str) -> str:
    """What Plum's DEV asks when a call connects, and probes before it queues one."""
    return f"{public_url(settings)}/start/{key}"


def public_url(settings: Settings) -> str:
    """As set, else where `serve` listened last."""
    if settings.public_url:
        return settings.public_url
    try:
        return (settings.spool_dir / ADDRESS).read_text()
    except OSError:
        return "http://127.0.0.1:8000"


def remember_address(settings: Settings, bind: str) -> None:
    """For the `result_url` that later commands print."""
    host = bind.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104
    try:
        (settings.spool_dir / ADDRESS).write_text(f"http://{host}")
    except OSError as error:
        log.warning("where it listens is not kept beside the spool, for commands: %s", error.strerror)
