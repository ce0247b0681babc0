"""For the operator: is it alive, can it take deliveries, and how many did it take."""

from __future__ import annotations

import math

from flask import Blueprint, Response

from app import metrics
from app.intake.spool import Spool
from app.store.aside import aside
from app.store.database import wal_bytes
from app.web.parts import parts

health = Blueprint("health", __name__)
scrape = Blueprint("scrape", __name__)


@health.get("/livez")
def livez() -> Response:
    """The process answers; neither store nor disk is touched."""
    return Response("alive\n", mimetype="text/plain")


@health.get("/readyz")
def readyz() -> Response:
    """200 while a delivery can be made durable; the text names each part that is wrong."""
    is_ready, lines = parts().readiness()
    return Response("\n".join(lines) + "\n", 200 if is_ready else 503, mimetype="text/plain")


@scrape.get("/metrics")
def show_metrics() -> Response:
    """Prometheus' text format, all workers together."""
    _show_backlog(parts().spool)
    metrics.WAL_BYTES.set(wal_bytes(parts().database))
    age = parts().heartbeat()
    metrics.HOUSEKEEPING_AGE_SECONDS.set(math.inf if age is None else age)
    return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)


def _show_backlog(spool: Spool) -> None:
    backlog = aside(spool.backlog)
    metrics.SPOOL_DELIVERIES.set(backlog.deliveries)
    metrics.SPOOL_BYTES.set(backlog.size_bytes)
    metrics.SPOOL_OLDEST_SECONDS.set(backlog.oldest_seconds)
    metrics.SPOOL_ASIDE.set(backlog.aside)
