"""A delivery handed in is durable when `submit` returns: in the store, else in the spool, else it is refused."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence

from app import metrics
from app.errors import StoreError
from app.intake.breaker import Breaker
from app.intake.spool import Spool
from app.model import Delivery, Reading, Receipt, Verdict

MAX_GROUP = 256
MAX_GROUP_BYTES = 4 << 20
GATHER_SECONDS = 0.004

Interpret = Callable[[Sequence[Delivery]], list[Reading]]
Save = Callable[[Sequence[Reading]], list[Receipt]]
Record = Callable[[Sequence[Delivery]], list[Receipt]]

log = logging.getLogger(__name__)


class _Ticket:
    """A delivery on its way, then its receipt, or what stands against it."""

    __slots__ = ("delivery", "failure", "receipt", "woken")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.receipt: Receipt | None = None
        self.failure: Exception | None = None
        self.woken = threading.Event()


class Writer:
    """Group commit: deliveries that come while a group is being written form the next one.

    The first to come leads: it writes all that wait, its own among them, and hands the lead to the first that came
    meanwhile. Nothing here knows whether callers are threads or greenlets.
    """

    def __init__(self, interpret: Interpret, save: Save, breaker: Breaker, spool: Spool) -> None:
        self._interpret = interpret
        self._save = save
        self._breaker = breaker
        self._spool = spool
        self._waiting: deque[_Ticket] = deque()
        self._is_led = False
        self._lock = threading.Lock()  # of the two above
        self._under_way = 0

    def submit(self, delivery: Delivery) -> Receipt:
        """Returns once the delivery is durable. Raises `StoreUnavailable` where neither store nor spool takes it."""
        ticket = _Ticket(delivery)
        with self._lock:
            self._waiting.append(ticket)
            leads, self._is_led = not self._is_led, True
        if not leads:
            ticket.woken.wait()
        if ticket.receipt is None and ticket.failure is None:
            self._lead()
        if ticket.failure:
            raise ticket.failure
        assert ticket.receipt is not None  # noqa: S101
        return ticket.receipt

    def _lead(self) -> None:
        self._gather()
        group = self._next_group()
        try:
            self._write(group)
        finally:
            self._under_way = len(group) + len(self._waiting) if len(group) > 1 else 0
            self._hand_over()
            for ticket in group:
                ticket.woken.set()

    def _gather(self) -> None:
        """Wait a little for half of those under way a moment ago: the ones just answered are about to come again.

        The other half come while these are written, and are the next group. A sender on its own waits for nobody.
        """
        time.sleep(0)
        deadline = time.monotonic() + GATHER_SECONDS
        while len(self._waiting) < min(self._under_way / 2, MAX_GROUP) and time.monotonic() < deadline:
            time.sleep(GATHER_SECONDS / 8)

    def _hand_over(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting[0].woken.set()
            else:
                self._is_led = False

    def _next_group(self) -> list[_Ticket]:
        group: list[_Ticket] = []
        size = 0
        while self._waiting and len(group) < MAX_GROUP and size < MAX_GROUP_BYTES:
            group.append(self._waiting.popleft())
            size += group[-1].delivery.size
        return group

    def _write(self, group: list[_Ticket]) -> None:
        try:
            receipts = self._store_or_spool([ticket.delivery for ticket in group])
        except Exception as error:  # noqa: BLE001  of whatever kind: else the group would wait for ever
            for ticket in group:
                ticket.failure = error
            return
        for ticket, receipt in zip(group, receipts, strict=True):
            ticket.receipt = receipt
        for verdict, number in Counter(receipt.verdict for receipt in receipts).items():
            metrics.DELIVERIES.labels(verdict.value).inc(number)
        count_readings(receipts)

    def _store_or_spool(self, deliveries: list[Delivery]) -> list[Receipt]:
        readings = self._interpret(deliveries)
        started = time.perf_counter()
        try:
            receipts = self._breaker.call(lambda: self._save(readings))
        except Exception as error:
            if not isinstance(error, StoreError):
                log.error("an unexpected failure while storing a group, which is spooled", exc_info=error)
            # Whether the commit came through may be unknown; the spooled copy has the same ids, so it counts once.
            self._spool.append(deliveries)
            return [Receipt(delivery.id, Verdict.SPOOLED) for delivery in deliveries]
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - started)
        metrics.GROUP_SIZE.observe(len(readings))
        return receipts


def count_readings(receipts: Collection[Receipt]) -> None:
    """Count what was understood of deliveries that have come into the store just now."""
    for reason, number in Counter(one.reason for one in receipts if one.verdict is Verdict.QUARANTINED).items():
        metrics.QUARANTINED.labels(reason).inc(number)
    for disposition, number in Counter(one.disposition for one in receipts if one.disposition).items():
        metrics.OUTCOMES.labels(disposition.value).inc(number)
