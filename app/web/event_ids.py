"""Event ids: opaque texts for a live stream's position. Other texts are refused."""

from __future__ import annotations

import base64
import json
import time

from app.store.journal import KEPT, Horizon, Span
from app.web.errors import Invalid

HEADER = "Last-Event-ID"

_LIMIT = 2**63


def write(span: Span, changed_at: float) -> str:
    """Return the id of this position. All changes after it were made at `changed_at`, in Unix seconds, or later."""
    content = [int(changed_at), *_flat(span.seen), *_flat(span.upto), span.id, span.sent]
    return base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode().rstrip("=")


def read(mark: str, now: Horizon, renewed_at: float = 0.0) -> tuple[Span, float]:
    """Return an id's position and its `changed_at`. Raises `Invalid` if it is not of this store, or older than the
    journal keeps changes.

    An id of before `renewed_at` holds numbers of a previous journal, so it is refused too.
    """
    try:
        text = base64.b64decode((mark + "=" * (-len(mark) % 4)).encode("ascii"), b"-_", validate=True)
        seconds, *content = json.loads(text)
        seen_end, seen_running, upto_end, upto_running, key, sent = content
        span = Span(
            _horizon(seen_end, seen_running),
            _horizon(upto_end, upto_running),
            _checked_number(key),
            _checked_number(sent),
        )
        changed_at = _checked_number(seconds)
        if span.upto.end > now.end or changed_at < renewed_at:
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise Invalid({HEADER: ["not an id of this stream; connect without it"]}) from None
    if is_forgotten(changed_at):
        raise Invalid(
            {HEADER: [f"older than {KEPT.days} days, so not all changes since then are kept; connect without it"]}
        )
    return span, changed_at


def is_forgotten(changed_at: float) -> bool:
    """True if the journal may have lost changes of that time."""
    return time.time() - changed_at > KEPT.total_seconds()


def _flat(horizon: Horizon) -> tuple[int, list[int]]:
    return horizon.end, list(horizon.running)


def _horizon(end: object, running: object) -> Horizon:
    if not isinstance(running, list) or len(running) > 10_000:
        raise ValueError
    return Horizon(_checked_number(end), tuple(map(_checked_number, running)))


def _checked_number(number: object) -> int:
    if type(number) is not int or not 0 <= number < _LIMIT:
        raise ValueError
    return number
