"""The metric catalogue. `docs/operations.md` explains each metric.

No label holds anything that a sender chooses; `counting.py` lists the values of labels.
"""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from app import metric_memory

metric_memory.join_as_child()

DELIVERIES = Counter("plum_deliveries", "Deliveries made durable, each once.", ["integration", "product", "verdict"])
LAST_DELIVERY = Gauge(
    "plum_last_delivery_timestamp_seconds",
    "When the latest delivery was made durable.",
    ["integration"],
    multiprocess_mode="mostrecent",
)
QUARANTINED = Counter("plum_quarantined", "Deliveries that could not be understood.", ["reason"])
OUTCOMES = Counter(
    "plum_outcomes",
    "Outcomes by what they came to; one whose disposition changes counts again.",
    ["product", "disposition", "callee_type"],
)
CALL_SECONDS = Histogram(
    "plum_call_duration_seconds",
    "Durations of calls, as their results tell them.",
    buckets=(5, 10, 20, 30, 60, 120, 180, 300, 600, 1200, 1800, 3600),
)
UNKNOWN_WORDS = Counter("plum_unknown_words", "Words of known fields that nobody knows.", ["field"])
PROBLEMS = Counter("plum_problems", "Values that could not be taken as they stand.", ["field"])
REFUSED = Counter("plum_refused", "Posts that were not acknowledged.", ["reason"])
STARTS_LOST = Counter("plum_starts_lost", "Calls whose start was answered, and could be kept nowhere.")
PROBES = Counter("plum_probes", "Requests that only asked whether the URL answers.")
LAST_PROBE = Gauge(
    "plum_last_probe_timestamp_seconds",
    "When it was last asked whether a URL of the integration answers.",
    ["integration"],
    multiprocess_mode="mostrecent",
)
ACK_SECONDS = Histogram(
    "plum_ack_seconds",
    "From a post's first byte in the application to its acknowledgement.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)

COMMIT_SECONDS = Histogram(
    "plum_commit_seconds",
    "From a group's start to its commit in the store.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
INTERPRET_SECONDS = Histogram(
    "plum_interpret_seconds",
    "For how long a group was being understood.",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)
GROUP_SIZE = Histogram(
    "plum_group_deliveries", "Deliveries that shared one commit.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
BREAKER_OPEN = Gauge("plum_breaker_open", "1 while a worker takes the store for away.", multiprocess_mode="livemax")
DRAINED = Counter("plum_spool_drained", "Deliveries that went from the spool into the store.")
SPOOL_DELIVERIES = Gauge("plum_spool_deliveries", "Deliveries in the spool.", multiprocess_mode="mostrecent")
SPOOL_BYTES = Gauge("plum_spool_bytes", "Size of the spool.", multiprocess_mode="mostrecent")
SPOOL_OLDEST_SECONDS = Gauge(
    "plum_spool_oldest_seconds", "Age of what waits longest in the spool.", multiprocess_mode="mostrecent"
)
SPOOL_ASIDE = Gauge("plum_spool_aside_files", "Files of what cannot be drained.", multiprocess_mode="mostrecent")
WAL_BYTES = Gauge(
    "plum_store_wal_bytes", "Size of SQLite's log of changes; 0 on PostgreSQL.", multiprocess_mode="mostrecent"
)
HOUSEKEEPING_AGE_SECONDS = Gauge(
    "plum_housekeeping_heartbeat_age_seconds",
    "For how long housekeeping has not gone on; infinite where it does not run.",
    multiprocess_mode="mostrecent",
)
CHORE_RUNS = Counter("plum_housekeeping_runs", "Times that a chore was begun.", ["chore"])
CHORE_FAILURES = Counter("plum_housekeeping_failures", "Times that a chore could not be done.", ["chore"])
PRUNED = Counter("plum_pruned_rows", "Rows that retention removed.", ["record"])
PRUNED_AT = Gauge(
    "plum_prune_last_success_timestamp_seconds",
    "When all that was too old, and not held, had been removed; 0 before the first time.",
    multiprocess_mode="mostrecent",
)
DISK_FREE_BYTES = Gauge(
    "plum_disk_free_bytes", "What is free on the disk of what is held.", ["holds"], multiprocess_mode="mostrecent"
)
CONNECTIONS = Gauge(
    "plum_store_connections", "Connections to the store in use.", ["pool"], multiprocess_mode="livesum"
)
MOST_CONNECTIONS = Gauge(
    "plum_store_connections_limit", "Connections to the store at most.", ["pool"], multiprocess_mode="livesum"
)
DRIFT_ITEMS = Gauge(
    "plum_drift_items", "Words, fields and problems that nobody knew when they came.", multiprocess_mode="mostrecent"
)
MISSING_CALLS = Gauge(
    "plum_missing_calls", "Expected calls past their window without a result.", multiprocess_mode="mostrecent"
)
EXPECTED_CALLS = Gauge(
    "plum_expected_calls", "Expected calls by what is known of them.", ["state"], multiprocess_mode="mostrecent"
)
RECONCILED = Counter("plum_reconciled_calls", "Times that a missing result was looked for.", ["result"])
ANALYTICS_LAG_SECONDS = Gauge(
    "plum_analytics_lag_seconds",
    "For how long the analytical copy has not held all that the store holds.",
    multiprocess_mode="mostrecent",
)
ANALYTICS_FILLED = Gauge(
    "plum_analytics_filled",
    "1 while the analytical copy holds all outcomes that were there before it.",
    multiprocess_mode="mostrecent",
)
LIVE_LAG_SECONDS = Gauge(
    "plum_live_lag_seconds",
    "For how long live streams have not been told of all that the store holds.",
    multiprocess_mode="livemax",
)
MEMORY_RATIO = Gauge(
    "plum_metrics_memory_ratio", "How full the memory for metrics is.", multiprocess_mode="mostrecent"
)
BUILD_INFO = Gauge(
    "plum_build_info", "1; the labels tell what runs.", ["version", "normaliser"], multiprocess_mode="livemax"
)

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition() -> bytes:
    """All metrics of all workers in Prometheus' text format."""
    if metric_memory.is_shared():
        MEMORY_RATIO.set(metric_memory.fullest())
    return generate_latest(_of_all_workers())


def last_probe(integration: str) -> float | None:
    """Return when any worker was last probed for the integration; None if not since the service started."""
    labels = {"integration": integration}
    return _of_all_workers().get_sample_value("plum_last_probe_timestamp_seconds", labels)


def _of_all_workers() -> CollectorRegistry:
    if not metric_memory.is_shared():
        return REGISTRY
    registry = CollectorRegistry()
    registry.register(metric_memory.Collector())
    return registry
