"""Wiring without the web: for the factory, the commands and the processes beside the workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from app import counting, logs, masking
from app.analytics.client import Nearest, Remote
from app.analytics.protocol import socket_of
from app.config import Settings
from app.housekeeping import Housekeeping
from app.identity import new_id
from app.intake.groups import in_parts, in_portions
from app.intake.known_keys import KnownKeys
from app.intake.spool import Spool
from app.intake.writer import Interpret, Record
from app.interpret import interpret, interpret_all
from app.model import Delivery, Reading, Receipt
from app.outbound.accounts import Accounts
from app.outbound.reconciling import GRACE, CallCounts, Reconciler, call_counts
from app.pruning import Pruner, retained
from app.query_router import QueryRouter
from app.store import journal, readings
from app.store.database import Database, check_space, truncate_wal
from app.store.integrations import ActiveKeys
from app.store.query.question import Question

if TYPE_CHECKING:
    from app.analytics.engine import Engine

FOR_DRAINING = 2  # connections
FOR_COPYING = 2

_now = partial(datetime.now, UTC)


def create_housekeeping(settings: Settings) -> Housekeeping:
    """Return the chores that run beside the web workers."""
    logs.log_what_ends_threads()
    database = Database(settings.database_url, connections=FOR_DRAINING)
    active_keys = ActiveKeys(database)
    return Housekeeping(
        spool=Spool(settings.spool_dir),
        read=group_reader(settings),
        save=saver(database),
        rehearse=rehearsal(database, settings),
        known_keys=KnownKeys(settings.spool_dir),
        active_keys=lambda: active_keys.look(_now()),
        forget=database.close,
        truncate_wal=partial(truncate_wal, database),
        renew_journal=lambda: journal.renew(database, _now()),
    )


def create_reconciler(settings: Settings, database: Database) -> Reconciler:
    """Return the reconciler, which looks for missing results."""
    return Reconciler(database, group_reader(settings), saver(database), Accounts(settings), _now)


def create_pruner(settings: Settings, database: Database) -> Pruner:
    """Return the pruner, which enforces the retention settings."""
    return Pruner(database, retained(settings), _now)


def missing(
    settings: Settings, database: Database, router: QueryRouter, grace: timedelta = GRACE
) -> Callable[[Question], list[CallCounts]]:
    """Return the function that counts expected calls, and the missing ones among them."""
    return lambda question: call_counts(database, question, _now() - grace, router.count_nameless)


def create_engine(settings: Settings) -> Engine:
    """Open the analytical copy. Raises `Locked` if another process has it."""
    from app.analytics.engine import Engine  # it loads DuckDB, which only the copy's owner needs

    database = Database(settings.database_url, connections=FOR_COPYING)
    return Engine(database, settings.analytics_path, settings.analytics_memory, masking.masks())


def create_query_router(settings: Settings, store: Database) -> QueryRouter:
    """Return the router for commands: it uses the running service's copy, or else opens the file itself."""
    journal_database = Database(settings.database_url, connections=1)
    copy = Nearest(remote(settings, journal_database), partial(create_engine, settings))
    return QueryRouter(store, journal_database, copy)


def remote(settings: Settings, database: Database) -> Remote:
    """Return a client of the process that owns the database's analytical copy."""
    return Remote(socket_of(settings.analytics_path), database.address)


def reader(settings: Settings) -> Callable[[Delivery], Reading]:
    """Return `interpret` with this installation's settings."""
    return partial(interpret, region=settings.default_region, max_body_bytes=settings.max_body_bytes)


def group_reader(settings: Settings) -> Interpret:
    """Return `interpret_all` with this installation's settings."""
    return partial(interpret_all, region=settings.default_region, max_body_bytes=settings.max_body_bytes)


def recorder(database: Database, settings: Settings) -> Record:
    """Return `record`, which parses and stores deliveries that no client waits for: spooled and imported ones."""
    read, save = group_reader(settings), saver(database)

    def record(deliveries: Sequence[Delivery]) -> list[Receipt]:
        return [receipt for part in in_parts(map(read, in_portions(deliveries))) for receipt in save(part)]

    return record


def saver(database: Database) -> Callable[[Sequence[Reading]], list[Receipt]]:
    """Return `save`, which also counts what it stores, even if the caller no longer waits."""

    def save(group: Sequence[Reading]) -> list[Receipt]:
        receipts = readings.save(database, group)
        counting.count_readings(group, receipts)
        return receipts

    return save


def rehearsal(database: Database, settings: Settings) -> Callable[[], None]:
    """Return a check that stores a delivery and rolls back. It raises `StoreUnavailable` while that fails."""

    def rehearse() -> None:
        check_space(database)
        at = _now()
        readings.rehearse(database, reader(settings)(Delivery(new_id(at), "", at, b"rehearsal")))

    return rehearse
