"""Audit entries of commands that reveal or change something, written before they do so."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from datetime import UTC, datetime

from app.identity import new_id
from app.masking import mask_parameters
from app.model import AuditEntry
from app.store import audit
from app.store.database import Database


def log_command(database: Database, what: str, asked: Iterable[tuple[str, str]] = ()) -> None:
    """Write the entry. Raises `StoreUnavailable`; then the command must not continue."""
    now = datetime.now(UTC)
    audit.write(database, AuditEntry(new_id(now), now, f"command line ({_user()})", what, mask_parameters(asked)))


def _user() -> str:
    """Return the system's name of the user, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user often has no name
        return str(os.getuid())
