"""For the operator: is it alive, can it take deliveries, and how many did it take.

Anybody may ask, so nothing here says where store and spool are; the log does.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from functools import partial

from flask import Blueprint, Response

from app import metrics
from app.errors import StoreError
from app.intake.breaker import within
from app.intake.spool import Spool
from app.store import schema_version
from app.store.aside import aside
from app.store.database import wal_bytes
from app.store.rollups.standing import Lag, lag
from app.web.parts import now, parts

LOOK_SECONDS = 3.0
LAG_SECONDS = 1.0
HUNG_SECONDS = 30.0  # housekeeping goes on at least every 12
QUIET_SECONDS = 60.0  # between two log lines of the same

health = Blueprint("health", __name__)
scrape = Blueprint("scrape", __name__)

log = logging.getLogger(__name__)
_told: dict[str, float] = {}  # when what was wrong was logged last


@health.get("/livez")
def livez() -> Response:
    """The process answers; neither store nor disk is touched."""
    return Response("alive\n", mimetype="text/plain")


@health.get("/readyz")
def readyz() -> Response:
    """200 while a delivery can be made durable; the text names each part that is wrong."""
    database = parts().database
    store = _wrong(lambda: schema_version.check(database)) or _wrong(parts().rehearse)
    spool = _wrong(parts().spool.check)
    lines = [f"store: {store or 'ok'}", f"spool: {spool or 'ok'}", *_remarks()]
    return Response("\n".join(lines) + "\n", 503 if store and spool else 200, mimetype="text/plain")


def _wrong(check: Callable[[], None]) -> str | None:
    """What is wrong, in words; the log says where."""
    try:
        within(LOOK_SECONDS, check)
    except StoreError as error:
        if time.monotonic() > _told.get(error.detail, 0.0) + QUIET_SECONDS:
            _told[error.detail] = time.monotonic()
            log.warning("not all is well: %s", error.detail)
        return str(error)
    return None


def _remarks() -> Iterator[str]:
    """What costs no delivery yet."""
    age = parts().heartbeat()
    if age is None:
        yield "housekeeping: not running, so the spool is not drained; start: plum-outcomes housekeeping"
    elif age > HUNG_SECONDS:
        yield f"housekeeping: has not gone on for {age:.0f} s, so the spool is not drained; start it again"
    if count := aside(parts().spool.aside):
        yield f"spool: {count} files are set aside; see docs/operations.md, then: plum-outcomes spool retry"


@scrape.get("/metrics")
def show_metrics() -> Response:
    """Prometheus' text format, all workers together."""
    _show_backlog(parts().spool)
    _show_lag()
    metrics.WAL_BYTES.set(wal_bytes(parts().database))
    age = parts().heartbeat()
    metrics.HOUSEKEEPING_AGE_SECONDS.set(math.inf if age is None else age)
    return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)


def _show_lag() -> None:
    """Now, whatever whoever makes roll-ups is doing; unknown while the store does not say."""
    try:
        behind = within(LAG_SECONDS, partial(lag, parts().answers, now()))
    except StoreError:
        behind = Lag(math.nan, filled=False)
    metrics.ROLLUP_LAG_SECONDS.set(behind.seconds)
    metrics.ROLLUP_FILLED.set(behind.filled)


def _show_backlog(spool: Spool) -> None:
    backlog = aside(spool.backlog)
    metrics.SPOOL_DELIVERIES.set(backlog.deliveries)
    metrics.SPOOL_BYTES.set(backlog.size_bytes)
    metrics.SPOOL_OLDEST_SECONDS.set(backlog.oldest_seconds)
    metrics.SPOOL_ASIDE.set(backlog.aside)
