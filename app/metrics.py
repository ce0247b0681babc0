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

DELIVERIES = Counter(
    "plum_deliveries", "Durable deliveries, each counted once.", ["integration", "product", "verdict"]
)
LAST_DELIVERY = Gauge(
    "plum_last_delivery_timestamp_seconds",
    "Time of the latest durable delivery.",
    ["integration"],
    multiprocess_mode="mostrecent",
)
QUARANTINED = Counter("plum_quarantined", "Deliveries that do not parse.", ["reason"])
OUTCOMES = Counter(
    "plum_outcomes",
    "Outcomes by disposition; an outcome whose disposition changes counts again.",
    ["product", "disposition", "callee_type"],
)
CALL_SECONDS = Histogram(
    "plum_call_duration_seconds",
    "Durations of calls, from their results.",
    buckets=(5, 10, 20, 30, 60, 120, 180, 300, 600, 1200, 1800, 3600),
)
UNKNOWN_WORDS = Counter("plum_unknown_words", "Unknown words in known fields.", ["field"])
PROBLEMS = Counter("plum_problems", "Values that do not parse.", ["field"])
REFUSED = Counter("plum_refused", "Posts that were not acknowledged.", ["reason"])
STARTS_LOST = Counter("plum_starts_lost", "Starts of calls that were answered but could not be stored.")
PROBES = Counter("plum_probes", "Probes: requests that only check the URL.")
LAST_PROBE = Gauge(
    "plum_last_probe_timestamp_seconds",
    "Time of the latest probe of the integration.",
    ["integration"],
    multiprocess_mode="mostrecent",
)
ACK_SECONDS = Histogram(
    "plum_ack_seconds",
    "Time from a post's arrival in the application to its acknowledgement.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)

COMMIT_SECONDS = Histogram(
    "plum_commit_seconds",
    "Time from a group's start to its commit in the store.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
INTERPRET_SECONDS = Histogram(
    "plum_interpret_seconds",
    "Time to parse and normalise a group.",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)
GROUP_SIZE = Histogram(
    "plum_group_deliveries", "Deliveries that shared one commit.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
BREAKER_OPEN = Gauge(
    "plum_breaker_open", "1 while a worker considers the store unavailable.", multiprocess_mode="livemax"
)
DRAINED = Counter("plum_spool_drained", "Deliveries drained from the spool into the store.")
SPOOL_DELIVERIES = Gauge("plum_spool_deliveries", "Deliveries in the spool.", multiprocess_mode="mostrecent")
SPOOL_BYTES = Gauge("plum_spool_bytes", "Size of the spool.", multiprocess_mode="mostrecent")
SPOOL_OLDEST_SECONDS = Gauge(
    "plum_spool_oldest_seconds", "Age of the oldest delivery in the spool.", multiprocess_mode="mostrecent"
)
SPOOL_ASIDE = Gauge(
    "plum_spool_aside_files", "Files set aside because they cannot be drained.", multiprocess_mode="mostrecent"
)
WAL_BYTES = Gauge("plum_store_wal_bytes", "Size of SQLite's WAL; 0 on PostgreSQL.", multiprocess_mode="mostrecent")
HOUSEKEEPING_AGE_SECONDS = Gauge(
    "plum_housekeeping_heartbeat_age_seconds",
    "Age of housekeeping's heartbeat; infinite if it does not run.",
    multiprocess_mode="mostrecent",
)
CHORE_RUNS = Counter("plum_housekeeping_runs", "Runs of a chore.", ["chore"])
CHORE_FAILURES = Counter("plum_housekeeping_failures", "Failed runs of a chore.", ["chore"])
PRUNED = Counter("plum_pruned_rows", "Rows that retention removed.", ["record"])
PRUNED_AT = Gauge(
    "plum_prune_last_success_timestamp_seconds",
    "End of the latest complete round of pruning; 0 before the first.",
    multiprocess_mode="mostrecent",
)
DISK_FREE_BYTES = Gauge(
    "plum_disk_free_bytes",
    "Free space on the disk of the spool and the store.",
    ["holds"],
    multiprocess_mode="mostrecent",
)
CONNECTIONS = Gauge(
    "plum_store_connections", "Connections to the store in use.", ["pool"], multiprocess_mode="livesum"
)
MOST_CONNECTIONS = Gauge(
    "plum_store_connections_limit", "Limit of connections to the store.", ["pool"], multiprocess_mode="livesum"
)
DRIFT_ITEMS = Gauge("plum_drift_items", "Unknown words, fields and problems.", multiprocess_mode="mostrecent")
MISSING_CALLS = Gauge(
    "plum_missing_calls", "Expected calls past their window without a result.", multiprocess_mode="mostrecent"
)
EXPECTED_CALLS = Gauge("plum_expected_calls", "Expected calls by state.", ["state"], multiprocess_mode="mostrecent")
RECONCILED = Counter("plum_reconciled_calls", "Attempts to find a missing result.", ["result"])
ANALYTICS_LAG_SECONDS = Gauge(
    "plum_analytics_lag_seconds",
    "Time since the analytical copy last had everything that the store has.",
    multiprocess_mode="mostrecent",
)
ANALYTICS_FILLED = Gauge(
    "plum_analytics_filled",
    "1 once the analytical copy is filled.",
    multiprocess_mode="mostrecent",
)
LIVE_LAG_SECONDS = Gauge(
    "plum_live_lag_seconds",
    "Time since live streams were last up to date.",
    multiprocess_mode="livemax",
)
MEMORY_RATIO = Gauge(
    "plum_metrics_memory_ratio", "How full the memory for metrics is.", multiprocess_mode="mostrecent"
)
BUILD_INFO = Gauge(
    "plum_build_info",
    "1; the labels name the running version.",
    ["version", "normaliser"],
    multiprocess_mode="livemax",
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
