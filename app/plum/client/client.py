"""The base class of the clients, with what the products have in common."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from app.plum.client.credentials import Credentials
from app.plum.client.failures import FateUnknown
from app.plum.client.forms import File, Form, bulk_file, bulk_form, call_form
from app.plum.client.limits import check_bulk, check_call
from app.plum.client.pacing import Pace
from app.plum.client.requests import BulkRequest, CallRequest
from app.plum.client.responses import CallStatus, UnreadableResponse
from app.plum.client.retrying import Retries

if TYPE_CHECKING:
    from app.plum.client.exchange import Exchange

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clocks:
    """The sources of time; tests replace them. `now` is aware, `monotonic` and `sleep` are in seconds."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Client(ABC):
    """Plum's APIs of one product. A context manager; thread-safe.

    All methods raise exceptions of `failures`: `NothingQueued` or a subclass if Plum certainly did nothing,
    `FateUnknown` if Plum may have carried out the request. The client never retries a queue request.
    """

    product: str

    def __init__(
        self, exchange: Exchange, credentials: Credentials, pace: Pace, patience: Retries, clocks: Clocks
    ) -> None:
        self._exchange = exchange
        self._credentials = credentials
        self._pace = pace
        self._patience = patience
        self._clocks = clocks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._exchange.close()

    def queue(self, request: CallRequest) -> str:
        """Queue one call and return its `call_id`, which is unique within the product (DEV: per outbound server).

        Waits for the rate limit. Plum GETs the URLs before it responds, so this takes seconds. Raises
        `InvalidRequest` before sending, otherwise the exceptions that the class names.
        """
        check_call(self.product, request, self._clocks.now())
        form = call_form(self.product, request, self._credentials)
        return self._change("the call may be queued", lambda: self._queue_call(request.to, form))

    def bulk_queue(self, request: BulkRequest) -> int:
        """Queue a batch and return the number of its calls; Plum returns no call ids. Otherwise like `queue`."""
        count = check_bulk(self.product, request, self._clocks.now())
        form, files = bulk_form(self.product, request, self._credentials), bulk_file(self.product, request)
        self._change("the batch may be queued", lambda: self._queue_batch(request.to, form, files))
        return count

    @abstractmethod
    def status(self, call_id: str) -> CallStatus:
        """Return the current status of one call. Retries for some seconds if Plum gives no usable response.

        Raises `UnknownCall` if Plum has no call of this id, `Unavailable` if no retry gets a usable response,
        `NotOffered` for DEV.
        """

    @abstractmethod
    def cancel(self, to: str) -> None:
        """Cancel all pending calls of `SURVEY/INSTANCE` or `APPLICATION/DEPLOYMENT`; Plum posts a result for each.

        Raises `NotOffered` for DEV, otherwise as `queue` does.
        """

    @abstractmethod
    def _queue_call(self, to: str | None, form: Form) -> str:
        """Send the request and return the call's id. Raises `UnreadableResponse` or a public exception."""

    @abstractmethod
    def _queue_batch(self, to: str | None, form: Form, files: Mapping[str, File]) -> None:
        """Send the request. Raises `UnreadableResponse` or a public exception."""

    def _change(self, fate: str, send: Callable[[], T]) -> T:
        """Send once, within the rate limit. `fate` says what may have happened if no clear response arrives."""
        self._pace.wait()
        try:
            return send()
        except UnreadableResponse as failure:
            raise FateUnknown(f"Plum gives {failure}: {fate}; look there before you do it again") from None
