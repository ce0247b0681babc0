"""The objects that the views use; `factory.py` makes them."""

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
from app.outbound.reconciling import CallCounts
from app.query_router import QueryRouter
from app.store.database import Database
from app.store.query.question import Question
from app.web.auth import Keyring
from app.web.concurrency import ConcurrencyLimit
from app.web.feed import Feed
from app.web.readiness import Report


@dataclass(frozen=True, slots=True)
class Parts:
    settings: Settings
    database: Database  # for deliveries
    answers: Database  # for single records
    router: QueryRouter  # for all other questions
    beside: Database  # for all other writes, and for live streams
    keyring: Keyring
    writer: Writer
    spool: Spool
    refused: Refused  # refused posts, which may still be accepted later
    missing: Callable[[Question], Sequence[CallCounts]]  # counts of expected calls, by integration and batch
    read: Callable[[Delivery], Reading]  # with the current normaliser
    reprocess: Callable[[UUID], None]  # the delivery of this id, with the current normaliser
    readiness: Callable[[], Report]
    heartbeat: Callable[[], float | None]  # the age of housekeeping's heartbeat; None if it does not run
    known_keys: Callable[[], Mapping[str, KnownKey]]  # as any process read them last, by the hex of their hashes
    feed: Feed
    question_limit: ConcurrencyLimit
    count_refused: Callable[[str], None]  # counts requests that the server refuses before the application, by reason
    audit: Callable[[AuditEntry], object]  # the entry is durable when it returns


def parts() -> Parts:
    """Return the parts of the running application."""
    running: Parts = current_app.extensions["plum"]
    return running


def now() -> datetime:
    return datetime.now(UTC)
