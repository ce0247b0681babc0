"""Retention: deletes records that are older than the settings allow, slowly enough not to delay callbacks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from app import metrics
from app.config import Settings
from app.errors import StoreError
from app.store import journal, retention
from app.store.database import Database
from app.store.query.question import Records
from app.store.removal import Removed

EVERY_SECONDS = 3600.0
AFTER_FAULT_SECONDS = 60.0
REST = 15  # pause after each transaction, as a multiple of its time: pruning uses little of the store's time

log = logging.getLogger(__name__)


def retained(settings: Settings) -> dict[Records, timedelta]:
    """Return how long each kind of record is kept; others are kept forever. Expected calls go with the outcomes."""
    ages = {
        Records.OUTCOMES: settings.retain_outcomes_days,
        Records.EXPECTED_CALLS: settings.retain_outcomes_days,
        Records.DELIVERIES: settings.retain_deliveries_days,
        Records.AUDIT: settings.retain_audit_days,
    }
    return {records: age for records, age in ages.items() if age is not None}


class Pruner:
    """Deletes records that are older than `kept` allows, and old journal entries."""

    def __init__(self, database: Database, kept: Mapping[Records, timedelta], now: Callable[[], datetime]) -> None:
        self._database = database
        self._kept = kept
        self._now = now

    def run(self, stop: threading.Event) -> None:
        """Run a round each hour, until `stop` is set."""
        while not stop.is_set():
            metrics.CHORE_RUNS.labels("prune").inc()
            try:
                for _ in self.prune(stop.wait):
                    if stop.is_set():
                        return
                metrics.PRUNED_AT.set_to_current_time()
                stop.wait(EVERY_SECONDS)
            except StoreError as error:
                metrics.CHORE_FAILURES.labels("prune").inc()
                log.warning("retention has to wait for the store: %s", error.detail)
                self._database.close()
                stop.wait(AFTER_FAULT_SECONDS)

    def prune(self, rest: Callable[[float], object] = time.sleep, *, dry_run: bool = False) -> Iterator[Removed]:
        """Run one round; yield what each transaction removed, or would remove. `rest` waits for so many seconds.

        Raises `StoreUnavailable`.
        """
        if not dry_run:
            yield from self._prune_journal(rest)
        for records, age in self._kept.items():
            before, edge, is_done = self._now() - age, None, False
            while not is_done:
                rows, edge = retention.find(self._database, records, before, edge)
                is_done = edge is None
                yield Removed({records: len(rows)} if dry_run else {})
                for at in range(0, 0 if dry_run else len(rows), retention.AT_ONCE):
                    batch = rows[at : at + retention.AT_ONCE]
                    removed, seconds = retention.remove(self._database, records, batch, before)
                    for kind, count in removed.items():
                        metrics.PRUNED.labels(kind.value).inc(count)
                    yield removed
                    rest(seconds * REST)

    def _prune_journal(self, rest: Callable[[float], object]) -> Iterator[Removed]:
        before, began = self._now() - journal.KEPT, time.monotonic()
        while journal.prune(self._database, before):
            yield Removed()
            rest((time.monotonic() - began) * REST)
            began = time.monotonic()
