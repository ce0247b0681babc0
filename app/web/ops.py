"""Endpoints for the operator: liveness, readiness and metrics."""

from __future__ import annotations

import math
from contextlib import suppress

from flask import Blueprint, Response

from app import counting, metrics
from app.cooperative import aside
from app.intake.spool import Spool
from app.store.database import Database, free_bytes, wal_bytes
from app.web.parts import parts

health = Blueprint("health", __name__)
scrape = Blueprint("scrape", __name__)


@health.get("/livez")
def livez() -> Response:
    """200 while the process answers; does not access store or disk."""
    return Response("alive\n", mimetype="text/plain")


@health.get("/readyz")
def readyz() -> Response:
    """200 while deliveries can be made durable; the text names every problem."""
    is_ready, lines = parts().readiness()
    return Response("\n".join(lines) + "\n", 200 if is_ready else 503, mimetype="text/plain")


@scrape.get("/metrics")
def show_metrics() -> Response:
    """The metrics of all workers together, in Prometheus' text format."""
    counting.expect_of(known.integration for known in aside(parts().known_keys).values())
    _show_backlog(parts().spool)
    _show_disks(parts().spool, parts().database)
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


def _show_disks(spool: Spool, database: Database) -> None:
    """Set the free space of the disks. A disk that fails keeps its last value; `/readyz` reports it."""
    with suppress(OSError):
        metrics.DISK_FREE_BYTES.labels("spool").set(aside(spool.free_bytes))
    with suppress(OSError):
        if (free := aside(free_bytes, database)) is not None:
            metrics.DISK_FREE_BYTES.labels("store").set(free)
