"""Event ids: opaque marks of how far a live stream has been told. Only what is written here is read here."""

from __future__ import annotations

import base64
import json
import time

from app.store.journal import KEPT, Horizon, Span
from app.web.errors import Invalid

HEADER = "Last-Event-ID"

_MOST = 2**63


def write(span: Span) -> str:
    content = [int(time.time()), *_flat(span.seen), *_flat(span.upto), span.id, span.sent]
    return base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode().rstrip("=")


def read(mark: str, now: Horizon, renewed_at: float = 0.0) -> Span:
    """Raises `Invalid` for what is no mark of this store, or of a time that is forgotten.

    One written before the journal was renewed tells numbers of another one.
    """
    try:
        text = base64.b64decode((mark + "=" * (-len(mark) % 4)).encode("ascii"), b"-_", validate=True)
        written, *content = json.loads(text)
        seen_end, seen_running, upto_end, upto_running, key, sent = content
        span = Span(_horizon(seen_end, seen_running), _horizon(upto_end, upto_running), _whole(key), _whole(sent))
        if span.upto.end > now.end or _whole(written) < renewed_at:
            raise ValueError
        age = time.time() - _whole(written)
    except (ValueError, TypeError, RecursionError):
        raise Invalid({HEADER: ["not an id of this stream; connect without it"]}) from None
    if age > KEPT.total_seconds():
        raise Invalid(
            {HEADER: [f"older than {KEPT.days} days, so what came since is not all kept; connect without it"]}
        )
    return span


def _flat(horizon: Horizon) -> tuple[int, list[int]]:
    return horizon.end, list(horizon.running)


def _horizon(end: object, running: object) -> Horizon:
    if not isinstance(running, list) or len(running) > 10_000:
        raise ValueError
    return Horizon(_whole(end), tuple(map(_whole, running)))


def _whole(number: object) -> int:
    if type(number) is not int or not 0 <= number < _MOST:
        raise ValueError
    return number
