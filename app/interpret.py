"""Deliveries understood: bytes in, values out. Pure, and it never raises."""

from __future__ import annotations

from collections.abc import Sequence

from app import products
from app.errors import Unreadable
from app.model import Delivery, Reading, Report
from app.normalise import VERSION, normalise

# The reason where a fault of ours stands in the way. It must not cost the callback: that is kept, seen and counted,
# and reprocessing mends it once the program is mended.
_NOT_UNDERSTOOD = "not_understood"


def interpret(delivery: Delivery, region: str = "US") -> Reading:
    """The delivery's reading: the call as it tells it, or the reason why it does not."""
    return interpret_all([delivery], region)[0]


def interpret_all(deliveries: Sequence[Delivery], region: str = "US") -> list[Reading]:
    """The reading of each.

    All are parsed before the first is normalised: what the processor has at hand for one step serves the whole group.
    """
    reports = [_report(delivery) for delivery in deliveries]
    return [_reading(delivery, report, region) for delivery, report in zip(deliveries, reports, strict=True)]


def _report(delivery: Delivery) -> Report | str | None:
    """What its body says, or the reason why it says nothing; None where it tells of no result."""
    if delivery.cut_short:
        return "cut_short"
    if delivery.started:
        return None
    try:
        return products.report(delivery.body, delivery.content_type, delivery.product)
    except Unreadable as unreadable:
        return str(unreadable)
    except Exception:  # noqa: BLE001
        return _NOT_UNDERSTOOD


def _reading(delivery: Delivery, report: Report | str | None, region: str) -> Reading:
    if not isinstance(report, Report):
        return Reading(delivery, reason=report, normaliser=VERSION)
    try:
        outcome = normalise(delivery, report, region)
    except Exception:  # noqa: BLE001
        return Reading(delivery, reason=_NOT_UNDERSTOOD, normaliser=VERSION)
    return Reading(delivery, outcome=outcome, problems=outcome.problems, normaliser=VERSION)
