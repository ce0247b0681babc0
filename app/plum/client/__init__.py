"""A client of Plum's APIs: queue calls, get the status of a call, cancel pending calls.

    with connect("fuse", "https://fuse.plumvoice.com", user, key) as plum:
        call_id = plum.queue(CallRequest(phone="16175551234", to="12/34", result_url=url, reference="appt-42"))
        status = plum.status(call_id)

`failures` has all exceptions; `NothingQueued` and `FateUnknown` are the two that matter first.
"""

from __future__ import annotations

from app.plum.client.client import Client, Clocks
from app.plum.client.credentials import Credentials
from app.plum.client.dev import DevClient
from app.plum.client.failures import (
    ApiError,
    Conflict,
    FateUnknown,
    InvalidRequest,
    NothingQueued,
    NotOffered,
    NotPermitted,
    Redirected,
    Refused,
    Unavailable,
    UnknownCall,
    UnknownDeployment,
    WrongCredentials,
)
from app.plum.client.insight_fuse import FuseClient, InsightClient
from app.plum.client.pacing import Pace
from app.plum.client.requests import BulkRequest, CallRequest
from app.plum.client.responses import CallStatus
from app.plum.client.retrying import Retries
from app.plum.client.timeouts import Timeouts

__all__ = [
    "ApiError",
    "BulkRequest",
    "CallRequest",
    "CallStatus",
    "Client",
    "Clocks",
    "Conflict",
    "FateUnknown",
    "InvalidRequest",
    "NotOffered",
    "NotPermitted",
    "NothingQueued",
    "Redirected",
    "Refused",
    "Timeouts",
    "Unavailable",
    "UnknownCall",
    "UnknownDeployment",
    "WrongCredentials",
    "connect",
]

CLIENTS: dict[str, type[Client]] = {"dev": DevClient, "insight": InsightClient, "fuse": FuseClient}


def connect(
    product: str,
    base_url: str,
    user: str,
    secret: str,
    *,
    per_second: float = 5.0,
    timeouts: Timeouts | None = None,
    clocks: Clocks | None = None,
) -> Client:
    """Return a client of `dev`, `insight` or `fuse`; it sends nothing yet.

    `base_url` is the part before `/webservice/…` or `/api/…`; `user` and `secret` are DEV's login and PIN, or e-mail
    address and developer key. The client sends at most `per_second` queue requests in a second. Raises
    `InvalidRequest` for an unknown product or an invalid base URL.
    """
    from app.plum.client.exchange import Exchange  # imports the HTTP library, which few importers of this need

    if product not in CLIENTS:
        raise InvalidRequest("product", f"one of {', '.join(CLIENTS)}")
    clocks = clocks or Clocks()
    credentials = Credentials(user, secret)
    # DEV reads login and PIN from the form, so it needs no Authorization header.
    exchange = Exchange(base_url, None if product == "dev" else credentials, timeouts or Timeouts())
    pace = Pace(1 / per_second, clocks.monotonic, clocks.sleep)
    return CLIENTS[product](exchange, credentials, pace, Retries(clocks.sleep), clocks)
