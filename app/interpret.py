"""Parses deliveries: bytes in, values out. Pure, and it never raises."""

from __future__ import annotations

from collections.abc import Sequence

from app import products
from app.errors import Unreadable
from app.model import Delivery, Problem, Reading, Report, Sent
from app.normalise import VERSION, as_text, normalise, start_of
from app.products import start
from app.products.content_codings import INFLATION, NotInflated, codings_of, inflated

MAX_BODY_BYTES = 1048576  # the default of PLUM_MAX_BODY_BYTES

# The reason for a fault of ours. The callback is kept, visible and counted, and can be reprocessed once the program
# is fixed.
_NOT_UNDERSTOOD = "not_understood"
# A few bytes may inflate to millions of values, which take seconds to parse. An uncompressed body has fewer.
_SEPARATORS = (b"&", b"<", b",", b"%", b"\n", b"=")
MAX_SEPARATORS = 300_000


def interpret(delivery: Delivery, region: str = "US", max_body_bytes: int = MAX_BODY_BYTES) -> Reading:
    """Return the delivery's reading: an outcome, or the reason why there is none."""
    return interpret_all([delivery], region, max_body_bytes)[0]


def interpret_all(
    deliveries: Sequence[Delivery], region: str = "US", max_body_bytes: int = MAX_BODY_BYTES
) -> list[Reading]:
    """Return the reading of each delivery. A compressed body may inflate to 16 times `max_body_bytes`.

    All bodies are parsed before the first is normalised, so that each step's code stays in the processor's cache.
    """
    reports = [_report(delivery, INFLATION * max_body_bytes) for delivery in deliveries]
    return [
        _start(delivery, region, max_body_bytes) if report is None else _reading(delivery, report, region)
        for delivery, report in zip(deliveries, reports, strict=True)
    ]


def start_fields(delivery: Delivery, max_body_bytes: int = MAX_BODY_BYTES) -> dict[str, str]:
    """Return the fields of a call's start by Plum's names, as text; of a body that does not parse, the query's."""
    try:
        body = _inflated(delivery, INFLATION * max_body_bytes)
    except Unreadable:
        body = b""
    sent = start.read(body, delivery.content_type, delivery.query)
    return {name: text for name, value in sent.items() if (text := as_text(Sent(name, value), []))}


def _report(delivery: Delivery, most: int) -> Report | str | None:
    """Return the body's report, or the reason why there is none; None for the start of a call."""
    if delivery.cut_short:
        return "cut_short"
    if delivery.started:
        return None
    try:
        return _inflated_report(delivery, most)
    except Unreadable as unreadable:
        return str(unreadable)
    except Exception:  # noqa: BLE001
        return _NOT_UNDERSTOOD


def _inflated_report(delivery: Delivery, most: int) -> Report:
    body = _inflated(delivery, most)
    try:
        return products.report(body, delivery.content_type, delivery.product)
    except Unreadable:
        if body is delivery.body and codings_of(delivery.headers):
            raise Unreadable("not_inflated") from None
        raise


def _inflated(delivery: Delivery, most: int) -> bytes:
    """Return the inflated body. A body that is not compressed as its header says is returned as it is: a proxy may
    have inflated it and left the header.

    Raises `Unreadable`.
    """
    try:
        body = inflated(delivery.body, codings_of(delivery.headers), most)
    except NotInflated:
        return delivery.body
    if len(body) > len(delivery.body) and sum(map(body.count, _SEPARATORS)) > MAX_SEPARATORS:
        raise Unreadable("too_large")
    return body


def _start(delivery: Delivery, region: str, max_body_bytes: int) -> Reading:
    """Return a reading without outcome and reason, also if the fields do not parse."""
    try:
        call = start_of(delivery.integration, start_fields(delivery, max_body_bytes), region)
    except Exception:  # noqa: BLE001
        problem = Problem("(body)", None, _NOT_UNDERSTOOD)
        return Reading(delivery, problems=(problem,), normaliser=VERSION)
    return Reading(delivery, normaliser=VERSION, start_of=call)


def _reading(delivery: Delivery, report: Report | str, region: str) -> Reading:
    if not isinstance(report, Report):
        return Reading(delivery, reason=report, normaliser=VERSION)
    try:
        outcome = normalise(delivery, report, region)
    except Exception:  # noqa: BLE001
        return Reading(delivery, reason=_NOT_UNDERSTOOD, normaliser=VERSION)
    return Reading(delivery, outcome, problems=outcome.problems, normaliser=VERSION, body_bytes=report.body_bytes)
