"""The exceptions of Plum's APIs. They distinguish first of all whether something may have been queued.

No message contains a secret, a phone number or the path of a URL.
"""

from __future__ import annotations

from app.errors import PlumError


class ApiError(PlumError):
    """Base class. The message says in one line what happened and what to do."""


class NothingQueued(ApiError):
    """Plum certainly queued nothing and changed nothing."""


class InvalidRequest(NothingQueued):
    """The request breaks one of Plum's limits and was not sent. `limit` says what `field` may be."""

    def __init__(self, field: str, limit: str) -> None:
        super().__init__(f"{field} should be {limit}")
        self.field = field
        self.limit = limit


class NotOffered(NothingQueued):
    """The product has no such API."""


class Refused(NothingQueued):
    """Plum understood the request and refused it. `status` is the HTTP status (DEV refuses with 200)."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class WrongCredentials(Refused):
    """401: user or secret is wrong, or the account is inactive."""


class NotPermitted(Refused):
    """403: the account may not use this survey, application or call."""


class UnknownDeployment(Refused):
    """404 while queueing or cancelling: Plum has no such survey, application, instance or deployment."""


class UnknownCall(Refused):
    """404 of the status API: Plum has no call of this id."""


class Conflict(Refused):
    """409: the survey or deployment is deleted, expired, full, or not the one that runs."""


class Redirected(Refused):
    """3xx: the base URL is not Plum's, or has moved; the message names the host of the redirect."""


class Unavailable(NothingQueued):
    """Plum cannot be reached, asks to retry later, or gives no usable response to a read. A later retry may succeed.

    `retry_after_seconds` is the time that Plum asks for, None if it gives none.
    """

    def __init__(self, text: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_seconds = retry_after_seconds


class FateUnknown(ApiError):
    """The request was sent without a clear response: Plum may have carried it out. Never retry automatically."""
