"""Keeps the roll-ups up to date, beside the spool's draining and with less claim to the processor than callbacks.

Any number may run: of two steps at once one is lost. What they have not reached questions look up themselves.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime

from app.errors import StoreError
from app.store import schema_version
from app.store.arrivals import Arrivals
from app.store.database import Database
from app.store.rollups.rolling import refresh

REST = 4  # times as long as a step took, while callbacks come: catching up with millions leaves these their time
PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 10.0  # with a store that is away

log = logging.getLogger(__name__)


class Roller:
    """A loop that ends when `stop` is set."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self._arrivals = Arrivals(database)

    def run(self, stop: threading.Event) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while not stop.is_set():
            stop.wait(self._step())

    def _step(self) -> float:
        """For how many seconds to rest."""
        began = time.monotonic()
        try:
            schema_version.check(self._database)  # what another program's schema wants of them is not known here
            more = refresh(self._database, self._now())
            rest = REST if self._arrivals.are_many() else 0
        except StoreError as error:
            log.warning("roll-ups have to wait: %s", error.detail)
            return PATIENCE_SECONDS
        except Exception as error:
            log.exception("roll-ups have to wait, through a fault of this program", exc_info=error)
            return PATIENCE_SECONDS
        return (time.monotonic() - began) * rest if more else PAUSE_SECONDS
