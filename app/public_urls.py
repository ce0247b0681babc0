"""The URLs at which Plum and users reach the service, as printed and shown for pasting."""

from __future__ import annotations

import logging
import socket

from app.config import Settings

ADDRESS = "address"  # a file in the spool directory: the address of the last `serve`

log = logging.getLogger(__name__)


def result_url(settings: Settings, key: str) -> str:
    return f"{public_url(settings)}/result/{key}"


def start_url(settings: Settings, key: str) -> str:
    """Return the URL that Plum's DEV requests when a call connects, and probes before it queues calls."""
    return f"{public_url(settings)}/start/{key}"


def public_url(settings: Settings) -> str:
    """Return PLUM_PUBLIC_URL, else the address on which `serve` listened last."""
    if settings.public_url:
        return settings.public_url
    try:
        return (settings.spool_dir / ADDRESS).read_text()
    except OSError:
        return "http://127.0.0.1:8000"


def remember_address(settings: Settings, listening: socket.socket) -> None:
    """Keep the address for the `result_url` that later commands print."""
    host, port, *_ = listening.getsockname()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    try:
        (settings.spool_dir / ADDRESS).write_text(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    except OSError as error:
        log.warning(
            "the address cannot be written to the spool directory: %s",
            error.strerror,
        )
