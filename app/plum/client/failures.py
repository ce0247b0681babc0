"""What a call of Plum's APIs can fail with. The first question is always: may something be queued now?

No text names a secret, a phone number or the path of a URL.
"""

from __future__ import annotations

from app.errors import PlumError


class ApiError(PlumError):
    """Base of all of them. The text says in one line what happened and what to do."""


class NothingQueued(ApiError):
    """Plum surely queued and changed nothing."""


class InvalidRequest(NothingQueued):
    """The request breaks a limit of Plum's and was not sent; `field` names what, `limit` what is allowed."""

    def __init__(self, field: str, limit: str) -> None:
        super().__init__(f"{field} should be {limit}")
        self.field = field
        self.limit = limit


class NotOffered(NothingQueued):
    """The product has no such API."""


class Refused(NothingQueued):
    """Plum understood the request and did not do it; `status` is that of HTTP (DEV refuses with 200)."""

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
    """3xx: the base URL is not Plum's, or has moved; the text names the host it leads to."""


class Unavailable(NothingQueued):
    """Plum is not reached, asks for patience, or answers a question with nothing usable; later may help.

    `retry_after_seconds` is what Plum asks for, None where it does not say.
    """

    def __init__(self, text: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_seconds = retry_after_seconds


class FateUnknown(ApiError):
    """The request went out and no clear answer came back: Plum may have done it. Never repeat it unasked."""
