"""Parts put together that need nothing of the web: for the factory, commands and the processes beside the workers."""

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
from app.intake.known_keys import KnownKeys
from app.intake.spool import Spool
from app.intake.writer import Interpret, Record
from app.interpret import interpret, interpret_all
from app.model import Delivery, Reading, Receipt
from app.plum_accounts import Accounts
from app.pruning import Pruner, retained
from app.query_router import QueryRouter
from app.reconciling import GRACE, CallCounts, Reconciler, call_counts
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
    """What runs beside the web workers."""
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


def create_reconciler(settings: Settings) -> Reconciler:
    """What looks for the results that did not come."""
    database = Database(settings.database_url, connections=1)
    return Reconciler(database, group_reader(settings), saver(database), Accounts(settings), _now)


def create_pruner(settings: Settings) -> Pruner:
    """What forgets as the settings want it."""
    return Pruner(Database(settings.database_url, connections=1), retained(settings), _now)


def missing(
    settings: Settings, database: Database, router: QueryRouter, grace: timedelta = GRACE
) -> Callable[[Question], list[CallCounts]]:
    """Counts expected calls, and those of them whose window and grace are over without a result."""
    return lambda question: call_counts(database, question, _now() - grace, router.count_nameless)


def create_engine(settings: Settings) -> Engine:
    """The analytical copy, for the one process that has it. Raises `Locked`."""
    from app.analytics.engine import Engine  # DuckDB, which only who opens the copy needs

    database = Database(settings.database_url, connections=FOR_COPYING)
    return Engine(database, settings.analytics_path, settings.analytics_memory, masking.masks())


def create_query_router(settings: Settings, store: Database) -> QueryRouter:
    """For who asks from the command line: the running service's copy, else the file itself."""
    copy = Nearest(remote(settings), partial(create_engine, settings))
    return QueryRouter(store, Database(settings.database_url, connections=1), copy)


def remote(settings: Settings) -> Remote:
    """The copy that the service's own process has."""
    return Remote(socket_of(settings.analytics_path), settings.database_url)


def reader(settings: Settings) -> Callable[[Delivery], Reading]:
    """`interpret` as this installation's settings want it."""
    return partial(interpret, region=settings.default_region, max_body_bytes=settings.max_body_bytes)


def group_reader(settings: Settings) -> Interpret:
    """The same for many deliveries at once."""
    return partial(interpret_all, region=settings.default_region, max_body_bytes=settings.max_body_bytes)


def recorder(database: Database, settings: Settings) -> Record:
    """`record`, the one way into the store for deliveries that wait for nobody: spooled and imported ones."""
    read, save = group_reader(settings), saver(database)
    return lambda deliveries: save(read(deliveries))


def saver(database: Database) -> Callable[[Sequence[Reading]], list[Receipt]]:
    """`save`, which counts what comes into the store, also where nobody waits for the answer any more."""

    def save(found: Sequence[Reading]) -> list[Receipt]:
        receipts = readings.save(database, found)
        counting.count_readings(found, receipts)
        return receipts

    return save


def rehearsal(database: Database, settings: Settings) -> Callable[[], None]:
    """What raises `StoreUnavailable` while the store takes no delivery: one is stored, and that undone."""

    def rehearse() -> None:
        check_space(database)
        at = _now()
        readings.rehearse(database, reader(settings)(Delivery(new_id(at), "", at, b"rehearsal")))

    return rehearse
