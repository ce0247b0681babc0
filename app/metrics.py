"""The metric catalogue; no other module knows the client library. `docs/operations.md` explains each.

No label holds anything that a sender chooses. Over several workers the library sums the files that each keeps.
"""

import os

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

DELIVERIES = Counter("plum_deliveries", "Deliveries made durable, each once.", ["verdict"])
QUARANTINED = Counter("plum_quarantined", "Deliveries that could not be understood.", ["reason"])
OUTCOMES = Counter(
    "plum_outcomes", "Outcomes by the disposition they came to; one that changes it counts again.", ["disposition"]
)
REFUSED = Counter("plum_refused", "Posts that were not acknowledged.", ["reason"])
PROBES = Counter("plum_probes", "Requests that only asked whether the URL answers.")
ACK_SECONDS = Histogram(
    "plum_ack_seconds",
    "From a post's first byte in the application to its acknowledgement.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition() -> bytes:
    """All metrics of all workers in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
