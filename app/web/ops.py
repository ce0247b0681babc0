"""For the operator: is it alive, can it take deliveries, and how many did it take."""

from __future__ import annotations

from flask import Blueprint, Response

from app import metrics
from app.errors import StoreError
from app.store import schema_version
from app.web.parts import parts

health = Blueprint("health", __name__)
scrape = Blueprint("scrape", __name__)


@health.get("/livez")
def livez() -> Response:
    """The process answers; neither store nor disk is touched."""
    return Response("alive\n", mimetype="text/plain")


@health.get("/readyz")
def readyz() -> Response:
    """200 while a delivery can be made durable; the text names what is wrong."""
    try:
        schema_version.check(parts().database)
    except StoreError as error:
        return Response(f"store: {error}\n", 503, mimetype="text/plain")
    return Response("store: ok\n", mimetype="text/plain")


@scrape.get("/metrics")
def show_metrics() -> Response:
    """Prometheus' text format, all workers together."""
    return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)
