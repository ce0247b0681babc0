"""The client of one product's APIs, and what the products have in common."""

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
from app.plum.client.responses import CallStatus, Unclear
from app.plum.client.retrying import Patience

if TYPE_CHECKING:
    from app.plum.client.exchange import Exchange

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where time comes from; tests have their own. `now` is aware, `monotonic` and `sleep` are in seconds."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Client(ABC):
    """Plum's APIs of one product. A context manager; safe for several threads.

    All methods raise the types of `failures`: `NothingQueued` and its kinds where Plum surely did nothing,
    `FateUnknown` where it may have. No queue call is ever sent twice.
    """

    product: str

    def __init__(
        self, exchange: Exchange, credentials: Credentials, pace: Pace, patience: Patience, clocks: Clocks
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
        """Closes the connections; the client is of no use afterwards."""
        self._exchange.close()

    def queue(self, request: CallRequest) -> str:
        """Queues one call and returns its `call_id`, which is unique within the product (DEV: per outbound server).

        Waits for its turn. Plum GETs the URLs before it answers, so that this takes seconds. Raises `InvalidRequest`
        before sending, else as the class says.
        """
        check_call(self.product, request, self._clocks.now())
        form = call_form(self.product, request, self._credentials)
        return self._change("the call may be queued", lambda: self._queue_call(request.to, form))

    def bulk_queue(self, request: BulkRequest) -> int:
        """Queues a batch and returns how many calls it holds; Plum tells no ids of them. Else as `queue`."""
        count = check_bulk(self.product, request, self._clocks.now())
        form, files = bulk_form(self.product, request, self._credentials), bulk_file(self.product, request)
        self._change("the batch may be queued", lambda: self._queue_batch(request.to, form, files))
        return count

    @abstractmethod
    def status(self, call_id: str) -> CallStatus:
        """What Plum tells of one call now. Asks again, some seconds in all, where Plum gives no usable answer.

        Raises `UnknownCall` where Plum has none of this id, `Unavailable` where it does not tell, `NotOffered` for
        DEV.
        """

    @abstractmethod
    def cancel(self, to: str) -> None:
        """Cancels all pending calls of `SURVEY/INSTANCE` or `APPLICATION/DEPLOYMENT`; Plum posts a result for each.

        Raises `NotOffered` for DEV, else as `queue`.
        """

    @abstractmethod
    def _queue_call(self, to: str | None, form: Form) -> str:
        """The call's id; raises `Unclear` beside the public types."""

    @abstractmethod
    def _queue_batch(self, to: str | None, form: Form, files: Mapping[str, File]) -> None:
        """Raises `Unclear` beside the public types."""

    def _change(self, fate: str, send: Callable[[], T]) -> T:
        """Sends once, in its turn; `fate` is what may have happened if no clear answer comes."""
        self._pace.wait()
        try:
            return send()
        except Unclear as failure:
            raise FateUnknown(f"Plum gives {failure}: {fate}; look there before you do it again") from None
