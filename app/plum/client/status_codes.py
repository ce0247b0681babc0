"""The status of an answer: what each documented code means, and what to do about it.

https://docs.plumvoice.com/insight/api/queuing-an-outbound-call
https://docs.plumvoice.com/fuse/apis/outbound-calls/outbound-call
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from app.plum.client.failures import (
    Conflict,
    NotPermitted,
    Redirected,
    Refused,
    Unavailable,
    UnknownCall,
    UnknownDeployment,
    WrongCredentials,
)
from app.plum.client.responses import Reply, Unclear, error_text

REFUSALS: dict[int, tuple[type[Refused], str]] = {
    400: (Refused, "mend what it names; result_url must answer 200 to GET before Plum queues anything"),
    401: (WrongCredentials, "compare user and key with those of the account, and see that the account is active"),
    403: (NotPermitted, "let this account's user have access to the survey or application"),
    404: (UnknownDeployment, "compare both ids and the base URL with the deployment that Plum shows"),
    405: (Refused, "the base URL may be wrong, for this address takes another method"),
    409: (Conflict, "look at the deployment: it is deleted, expired, full, incomplete or not the current one"),
    415: (Refused, "something on the way changed the request's content type"),
}
UNKNOWN_CALL = (
    UnknownCall,
    "compare the call_id with the one that Plum gave, and the product and account with the call's",
)
OTHER = (Refused, "compare the base URL with Plum's pages")


def check(reply: Reply, harmless: Callable[[str], str], *, is_call: bool = False) -> None:
    """Passes what Plum says it did; raises `Refused`, `Unavailable` or, where nobody knows, `Unclear`.

    `harmless` makes a text of Plum's fit to be shown. `is_call` says that the address names one call.
    """
    if 200 <= reply.status < 300:
        return
    if 300 <= reply.status < 400 and reply.status != 303:  # which may follow a request that was carried out
        raise Redirected(_leads_to(reply), reply.status)
    if reply.status == 429:
        raise Unavailable("Plum answers 429: too many requests, so wait and queue more slowly", retry_after(reply))
    if not 400 <= reply.status < 500:
        raise Unclear(f"an answer {reply.status}", retry_after(reply))
    raise _refusal(reply, harmless, is_call=is_call)


def _refusal(reply: Reply, harmless: Callable[[str], str], *, is_call: bool) -> Refused:
    said = harmless(error_text(reply.body))
    kind, advice = REFUSALS.get(reply.status, OTHER)
    if is_call and reply.status == 404:  # without Plum's own words something else may have answered
        kind, advice = UNKNOWN_CALL if said else OTHER
    return kind(f"Plum answers {reply.status}{f' ({said})' if said else ''}: {advice}", reply.status)


def _leads_to(reply: Reply) -> str:
    """Of the address only scheme and host: its path may hold what was sent."""
    try:
        parts = urlsplit(reply.location)
        host, port = parts.hostname, f":{parts.port}" if parts.port else ""
    except ValueError:
        host, port = None, ""
    place = f"to {parts.scheme}://{host}{port}; point the base URL there" if host else "elsewhere on the same host"
    return f"Plum answers {reply.status} and leads {place}, if you trust it: redirects are not followed"


def retry_after(reply: Reply) -> float | None:
    """Seconds from `Retry-After`, which is a number or a date; None without one that can be read."""
    if reply.retry_after.isascii() and reply.retry_after.isdigit():
        return float(reply.retry_after[:9])
    try:
        until = parsedate_to_datetime(reply.retry_after)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
