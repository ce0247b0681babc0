"""Deliveries understood: bytes in, values out. Pure, and it never raises."""

from __future__ import annotations

from collections.abc import Sequence

from app import products
from app.errors import Unreadable
from app.model import Delivery, Problem, Reading, Report, Sent
from app.normalise import VERSION, as_text, normalise, start_of
from app.products import start
from app.products.content_codings import INFLATION, NotInflated, codings_of, inflated

MAX_BODY_BYTES = 1048576  # where no setting says otherwise

# The reason where a fault of ours stands in the way. It must not cost the callback: that is kept, seen and counted,
# and reprocessing mends it once the program is mended.
_NOT_UNDERSTOOD = "not_understood"
# What few bytes inflate to can hold millions of values, which take seconds to read; a body as sent cannot.
_MARKS = (b"&", b"<", b",", b"%", b"\n")
MAX_MARKS = 300_000


def interpret(delivery: Delivery, region: str = "US", max_body_bytes: int = MAX_BODY_BYTES) -> Reading:
    """The delivery's reading: the call as it tells it, or the reason why it does not."""
    return interpret_all([delivery], region, max_body_bytes)[0]


def interpret_all(
    deliveries: Sequence[Delivery], region: str = "US", max_body_bytes: int = MAX_BODY_BYTES
) -> list[Reading]:
    """The reading of each; a compressed one may inflate to so many times `max_body_bytes`.

    All are parsed before the first is normalised: what the processor has at hand for one step serves the whole group.
    """
    reports = [_report(delivery, INFLATION * max_body_bytes) for delivery in deliveries]
    return [
        _start(delivery, region, max_body_bytes) if report is None else _reading(delivery, report, region)
        for delivery, report in zip(deliveries, reports, strict=True)
    ]


def start_fields(delivery: Delivery, max_body_bytes: int = MAX_BODY_BYTES) -> dict[str, str]:
    """What a call's start says, by Plum's names, as text; of a body that cannot be read, what its query says."""
    try:
        body = _inflated(delivery, INFLATION * max_body_bytes)
    except Unreadable:
        body = b""
    sent = start.read(body, delivery.content_type, delivery.query)
    return {name: text for name, value in sent.items() if (text := as_text(Sent(name, value), []))}


def _report(delivery: Delivery, most: int) -> Report | str | None:
    """What its body says, or the reason why it says nothing; None where it tells of no result."""
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
    """A header that does not hold is a wrong hint: a proxy may have inflated the body and left it there.

    Raises `Unreadable`.
    """
    try:
        body = inflated(delivery.body, codings_of(delivery.headers), most)
    except NotInflated:
        return delivery.body
    if len(body) > len(delivery.body) and sum(map(body.count, _MARKS)) > MAX_MARKS:
        raise Unreadable("too_large")
    return body


def _start(delivery: Delivery, region: str, max_body_bytes: int) -> Reading:
    """It stays a start, whatever stands in the way of what it says."""
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
    return Reading(delivery, outcome=outcome, problems=outcome.problems, normaliser=VERSION)
