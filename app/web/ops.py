"""For the operator: is it alive, can it take deliveries, and how many did it take."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response

from app import metrics
from app.errors import StoreError
from app.intake.breaker import within
from app.intake.spool import Spool
from app.store import schema_version
from app.store.database import check_space
from app.web.parts import parts

LOOK_SECONDS = 3.0

health = Blueprint("health", __name__)
scrape = Blueprint("scrape", __name__)


@health.get("/livez")
def livez() -> Response:
    """The process answers; neither store nor disk is touched."""
    return Response("alive\n", mimetype="text/plain")


@health.get("/readyz")
def readyz() -> Response:
    """200 while a delivery can be made durable; the text names each part that is wrong."""
    database = parts().database
    store = _wrong(lambda: schema_version.check(database)) or _wrong(lambda: check_space(database))
    spool = _wrong(parts().spool.check)
    lines = [f"store: {store or 'ok'}", f"spool: {spool or 'ok'}"]
    if not parts().is_kept():
        lines.append("housekeeping: not running, so the spool is not drained; start: plum-outcomes housekeeping")
    if aside := parts().spool.backlog().aside:
        lines.append(f"spool: {aside} files are set aside, which the store refused; see docs/operations.md")
    return Response("\n".join(lines) + "\n", 503 if store and spool else 200, mimetype="text/plain")


def _wrong(check: Callable[[], None]) -> str | None:
    """What is wrong, in words."""
    try:
        within(LOOK_SECONDS, check)
    except StoreError as error:
        return str(error)
    return None


@scrape.get("/metrics")
def show_metrics() -> Response:
    """Prometheus' text format, all workers together."""
    _show_backlog(parts().spool)
    return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)


def _show_backlog(spool: Spool) -> None:
    backlog = spool.backlog()
    metrics.SPOOL_DELIVERIES.set(backlog.deliveries)
    metrics.SPOOL_BYTES.set(backlog.size_bytes)
    metrics.SPOOL_OLDEST_SECONDS.set(backlog.oldest_seconds)
    metrics.SPOOL_ASIDE.set(backlog.aside)
