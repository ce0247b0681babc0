"""A delivery handed in is durable when `submit` returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app import metrics
from app.model import Delivery, Receipt, Verdict

Record = Callable[[Sequence[Delivery]], list[Receipt]]


class Writer:
    """Makes deliveries durable through `record`, the one way into the store.

    The seam for group commit: callers hand in one delivery and wait; how many share a transaction is decided here.
    """

    def __init__(self, record: Record) -> None:
        self._record = record

    def submit(self, delivery: Delivery) -> Receipt:
        """Returns once the delivery is durable. Raises `StoreUnavailable` where it is not."""
        receipts = self._record([delivery])
        for receipt in receipts:
            _count(receipt)
        return receipts[0]


def _count(receipt: Receipt) -> None:
    metrics.DELIVERIES.labels(verdict=receipt.verdict).inc()
    if receipt.verdict is Verdict.QUARANTINED:
        metrics.QUARANTINED.labels(reason=receipt.reason).inc()
    if receipt.disposition:
        metrics.OUTCOMES.labels(disposition=receipt.disposition).inc()
