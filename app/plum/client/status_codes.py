"""The HTTP status codes that Plum documents: their exceptions, and advice on what to do.

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
from app.plum.client.responses import Reply, UnreadableResponse, error_text

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
    """Return if the status is a success; else raise `Refused`, `Unavailable`, or `UnreadableResponse` (unknown fate).

    `harmless` removes secrets from Plum's texts. `is_call` is true if the URL names one call.
    """
    if 200 <= reply.status < 300:
        return
    if 300 <= reply.status < 400 and reply.status != 303:  # a 303 may follow a request that was carried out
        raise Redirected(_redirect_text(reply), reply.status)
    if reply.status == 429:
        raise Unavailable("Plum answers 429: too many requests, so wait and queue more slowly", retry_after(reply))
    if not 400 <= reply.status < 500:
        raise UnreadableResponse(f"an answer {reply.status}", retry_after(reply))
    raise _refusal(reply, harmless, is_call=is_call)


def _refusal(reply: Reply, harmless: Callable[[str], str], *, is_call: bool) -> Refused:
    reason = harmless(error_text(reply.body))
    kind, advice = REFUSALS.get(reply.status, OTHER)
    if is_call and reply.status == 404:  # without an `error` text another server may have responded
        kind, advice = UNKNOWN_CALL if reason else OTHER
    return kind(f"Plum answers {reply.status}{f' ({reason})' if reason else ''}: {advice}", reply.status)


def _redirect_text(reply: Reply) -> str:
    """Return a message that names only scheme and host of the target: its path may contain sent values."""
    try:
        parts = urlsplit(reply.location)
        host, port = parts.hostname, f":{parts.port}" if parts.port else ""
    except ValueError:
        host, port = None, ""
    place = f"to {parts.scheme}://{host}{port}; point the base URL there" if host else "elsewhere on the same host"
    return f"Plum answers {reply.status} and leads {place}, if you trust it: redirects are not followed"


def retry_after(reply: Reply) -> float | None:
    """Return the seconds of `Retry-After`, which is a number or a date; None if it is missing or does not parse."""
    if reply.retry_after.isascii() and reply.retry_after.isdigit():
        return float(reply.retry_after[:9])
    try:
        until = parsedate_to_datetime(reply.retry_after)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
