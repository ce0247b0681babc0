"""Counting of deliveries and their readings in metrics, and the values of labels.

The values are ours, never a sender's: any other counts as `other`. Each series that is known beforehand begins at 0,
so that Prometheus sees its first increase.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from app import metrics
from app.model import (
    CalleeType,
    CallState,
    Delivery,
    Integration,
    Outcome,
    Product,
    Reading,
    Receipt,
    Status,
    Verdict,
)
from app.normalise import BY_CALLEE_TYPE, BY_STATUS
from app.products import KNOWN_FIELDS, call_details, dev

AUTO = "auto"  # the product label of an integration that declares none
NONE = "none"  # the callee type label of a product that has no callee types
OTHER = "other"

QUARANTINE_REASONS = (
    "cut_short",
    "empty",
    "no_known_field",
    "not_form",
    "not_inflated",
    "not_json",
    "not_text",
    "not_understood",
    "not_xml",
    "store_refused",
    "too_deep",
    "too_large",
)
REFUSAL_REASONS = (
    "api",
    "cut_short",
    "expectation",
    "large_head",
    "long_url",
    "malformed",
    "no_length",
    "overload",
    "slow_head",
    "store_unavailable",
    "too_large",
    "transfer_coding",
    "unexpected",
    "unknown_key",
    "unknown_url",
    "wrong_address",
    "wrong_password",
)
RECONCILED_RESULTS = (
    "not_asked",
    "not_reached",
    "not_understood",
    "polled",
    "received",
    "refused",
    "running",
    "unknown_to_plum",
)
CHORES = ("spool", "reconcile", "prune")
PRUNED_RECORDS = ("outcomes", "deliveries", "expected-calls", "audit")
WORD_FIELDS = ("status", "callee_type", "event")

log = logging.getLogger(__name__)

_NUMBERS = re.compile(r"\[\d+\]")


def begin() -> None:
    """Create the series that do not depend on integrations."""
    for metric, words in (
        (metrics.QUARANTINED, QUARANTINE_REASONS),
        (metrics.REFUSED, REFUSAL_REASONS),
        (metrics.RECONCILED, RECONCILED_RESULTS),
        (metrics.CHORE_RUNS, CHORES),
        (metrics.CHORE_FAILURES, CHORES),
        (metrics.PRUNED, PRUNED_RECORDS),
        (metrics.UNKNOWN_WORDS, WORD_FIELDS),
        (metrics.PROBLEMS, (*KNOWN_FIELDS, OTHER)),
        (metrics.EXPECTED_CALLS, CallState),
    ):
        for word in words:
            metric.labels(word)
    for disposition in BY_STATUS.values():
        metrics.OUTCOMES.labels(Product.DEV, disposition, CalleeType.UNKNOWN)
        metrics.OUTCOMES.labels(Product.INSIGHT, disposition, NONE)
        metrics.OUTCOMES.labels(Product.FUSE, disposition, NONE)
    for callee_type, (disposition, _) in BY_CALLEE_TYPE.items():
        metrics.OUTCOMES.labels(Product.DEV, disposition, callee_type)


def expect_of(integrations: Iterable[Integration]) -> None:
    """Create the series of these integrations before their first delivery."""
    for one in integrations:
        for verdict in Verdict:
            metrics.DELIVERIES.labels(one.name, one.product or AUTO, verdict)


def count_deliveries(durable: Iterable[tuple[Delivery, Verdict]]) -> None:
    """Count each delivery once, with the verdict that it had when it became durable."""
    counts = Counter((one.integration, one.product or AUTO, verdict) for one, verdict in durable)
    for labels, number in counts.items():
        metrics.DELIVERIES.labels(*labels).inc(number)
    for integration in {integration for integration, _, _ in counts}:
        metrics.LAST_DELIVERY.labels(integration).set_to_current_time()


def count_readings(readings: Sequence[Reading], receipts: Sequence[Receipt]) -> None:
    """Count the readings of deliveries that are new in the store."""
    new = {
        receipt.delivery_id: (reading, receipt)
        for reading, receipt in zip(readings, receipts, strict=True)
        if receipt.is_new
    }
    quarantined: Counter[str | None] = Counter()
    outcomes: Counter[tuple[str, ...]] = Counter()
    for reading, receipt in new.values():
        if receipt.verdict is Verdict.QUARANTINED:
            quarantined[receipt.reason] += 1
            log.warning("a delivery is quarantined: %s", receipt.reason, extra={"delivery": receipt.delivery_id})
            continue
        for problem in reading.problems:
            metrics.PROBLEMS.labels(_field(problem.field)).inc()
        if reading.outcome:
            _count_words(reading.outcome)
            if receipt.disposition:
                outcomes[(reading.outcome.product, receipt.disposition, reading.outcome.callee_type or NONE)] += 1
            if receipt.verdict is Verdict.APPLIED and reading.outcome.duration_seconds is not None:
                metrics.CALL_SECONDS.observe(reading.outcome.duration_seconds)
    for reason, number in quarantined.items():
        metrics.QUARANTINED.labels(reason).inc(number)
    for labels, number in outcomes.items():
        metrics.OUTCOMES.labels(*labels).inc(number)


def _count_words(outcome: Outcome) -> None:
    if outcome.status is Status.UNKNOWN and outcome.status_raw:
        metrics.UNKNOWN_WORDS.labels("status").inc()
    if outcome.callee_type_raw and outcome.callee_type_raw.strip().casefold() not in dev.CALLEE_TYPES:
        metrics.UNKNOWN_WORDS.labels("callee_type").inc()
    for one in outcome.events:
        if one.event and one.event.strip().casefold() not in call_details.EVENTS:
            metrics.UNKNOWN_WORDS.labels("event").inc()


def _field(name: str) -> str:
    folded = _NUMBERS.sub("[]", name).casefold()
    return folded if folded in KNOWN_FIELDS else OTHER
