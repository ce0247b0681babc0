"""What the views work with, put together in `factory.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from flask import current_app

from app.config import Settings
from app.intake.refused import Refused
from app.intake.spool import Spool
from app.intake.writer import Writer
from app.model import AuditEntry, Delivery, KnownKey, Reading
from app.query_router import QueryRouter
from app.reconciling import CallCounts
from app.store.database import Database
from app.store.query.question import Question
from app.web.auth import Keyring
from app.web.concurrency import ConcurrencyLimit
from app.web.feed import Feed
from app.web.readiness import Report


@dataclass(frozen=True, slots=True)
class Parts:
    settings: Settings
    database: Database  # where deliveries go
    answers: Database  # where single records are looked up
    router: QueryRouter  # all other questions
    beside: Database  # where all else goes that is written, and where live streams look
    keyring: Keyring
    writer: Writer
    spool: Spool
    refused: Refused  # posts that may yet be taken
    missing: Callable[[Question], Sequence[CallCounts]]  # of expected calls, by integration and batch
    read: Callable[[Delivery], Reading]  # with today's normaliser
    reprocess: Callable[[UUID], None]  # a delivery through today's normaliser
    readiness: Callable[[], Report]
    heartbeat: Callable[[], float | None]  # for how long housekeeping has not gone on; None where it does not run
    known_keys: Callable[[], Mapping[str, KnownKey]]  # as any process has seen them last, by the hex of their hash
    feed: Feed
    question_limit: ConcurrencyLimit
    count_refused: Callable[[str], None]  # what the server does not let through to the application
    audit: Callable[[AuditEntry], object]  # durable when it returns


def parts() -> Parts:
    """The running app's parts."""
    found: Parts = current_app.extensions["plum"]
    return found


def now() -> datetime:
    return datetime.now(UTC)
