"""The steps of `serve` before gunicorn starts: it listens, checks the store, and greets the first user."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from app.auditing import log_command
from app.config import Settings
from app.errors import ConfigError, StoreError
from app.intake.known_keys import KnownKeys
from app.intake.spool import Spool
from app.model import Scope
from app.public_urls import public_url, result_url, start_url
from app.store import integrations, schema_version, tokens
from app.store.database import Database

_FIRST_PASSED = 3  # SD_LISTEN_FDS_START

ROOT = Path(__file__).parent.parent
SAMPLE_BODY = (
    "phone_number=16175551234&message_reference=appt-42&call_id=112850593&result=Completed&callee_type=voice"
    "&attempts=1&last_attempt_timestamp=Mon%2C+19+Jul+2004+13%3A46%3A03+-0400&duration=37"
)

log = logging.getLogger(__name__)


def check(settings: Settings, database: Database) -> None:
    """Raise `StoreError` unless a delivery can be kept: in the store, or, for known keys, in the spool.

    A schema of another release is no reason to lose results: a migration may have failed, or wait.
    """
    spool = _failure(Spool(settings.spool_dir).check)
    store = _failure(lambda: schema_version.check(database))
    if store and (spool or not KnownKeys(settings.spool_dir).read()):
        raise store
    if store:
        log.warning("%s; deliveries for known keys go to the spool while the store does not take them", store.detail)
    if spool:
        log.warning("the spool: %s; until it is mended, deliveries are refused while the store is away", spool.detail)


def _failure(check: Callable[[], None]) -> StoreError | None:
    try:
        check()
    except StoreError as error:
        return error
    return None


def listen(bind: str) -> socket.socket:
    """Return the listening socket: systemd's if it passes one, which listens on while the service restarts.

    A port in use is reported before anything is printed or started.
    """
    return _passed() or _bound(bind)


def _passed() -> socket.socket | None:
    """Return the socket that systemd passes to this process, if any. Raises `ConfigError` unless it is one of TCP.

    https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
    """
    # gunicorn must not find them: it would listen on all that systemd passes.
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    if pid != str(os.getpid()):
        return None
    passed = socket.socket(fileno=_FIRST_PASSED)
    if count != "1" or passed.family not in (socket.AF_INET, socket.AF_INET6):
        raise ConfigError("systemd passes other sockets than one of TCP; the unit needs one ListenStream=HOST:PORT")
    return passed


def _bound(bind: str) -> socket.socket:
    host, _, port = bind.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{bind} is not HOST:PORT")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), int(port)))
        listening.listen(2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {bind}: {error.strerror}; try: make run PORT=8001, or serve --bind HOST:PORT"
        ) from error
    return listening


def welcome(settings: Settings, database: Database) -> str:
    """Return the text of the first start, with the secrets that it creates; later starts show none."""
    if integrations.list_integrations(database):
        new = "for a new URL: plum-outcomes integration add NAME"
        return f"Serving {public_url(settings)} with the existing integrations; {new}"
    now = datetime.now(UTC)
    for what in ("integration add", "token add"):
        log_command(database, what, [("name", "first")])
    key = integrations.add_integration(database, "first", None, now)
    url = result_url(settings, key)
    token = tokens.add_token(database, "first", Scope.ADMIN, now)  # the first user owns the service
    return f"""
  result_url for Plum   {url}
  start_url (DEV alone) {start_url(settings, key)}
  page                  {public_url(settings)}/
  token                 {token}

Neither is shown again. Post a sample result, then see its outcome, on the page or by the API:

  curl -d '{SAMPLE_BODY}' '{url}'
  curl -H 'Authorization: Bearer {token}' '{public_url(settings)}/api/v1/outcomes'
"""


def run_gunicorn(listening: socket.socket, workers: int) -> NoReturn:
    """Replace this process by gunicorn."""
    sys.stdout.flush()
    os.set_inheritable(listening.fileno(), True)
    config = ROOT / "deploy" / "gunicorn.conf.py"
    command = [sys.executable, "-m", "gunicorn", "--config", str(config), "--pythonpath", str(ROOT)]
    options = ["--workers", str(workers), "--bind", f"fd://{listening.fileno()}"]
    # By default glibc keeps freed memory in up to eight arenas per processor.
    environment = {"MALLOC_ARENA_MAX": "2"} | os.environ
    os.execve(sys.executable, [*command, *options, "wsgi:app"], environment)  # noqa: S606
