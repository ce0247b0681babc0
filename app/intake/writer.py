"""Makes deliveries durable: `submit` returns when the delivery is in the store or in the spool; otherwise it
raises."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from app import counting, metrics
from app.cooperative import cooperatively
from app.errors import StoreError, StoreUnavailable
from app.intake.breaker import Breaker
from app.intake.groups import in_parts, in_portions
from app.intake.spool import Spool
from app.model import Delivery, Reading, Receipt, Verdict

MAX_GROUP = 256
MAX_GROUP_BYTES = 4 << 20
GATHER_SECONDS = 0.004

Interpret = Callable[[Sequence[Delivery]], list[Reading]]
Save = Callable[[Sequence[Reading]], list[Receipt]]
Record = Callable[[Sequence[Delivery]], list[Receipt]]

log = logging.getLogger(__name__)


class _Group:
    """Deliveries that share a commit, then their receipts, or the failure of those that have none.

    An impatient delivery whose patience ends before the commit gets its receipt from the spool.
    """

    __slots__ = ("deliveries", "failure", "impatient", "is_over", "progress", "receipts", "size")

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.impatient: list[int] = []
        self.size = 0
        self.receipts: dict[int, Receipt] = {}  # by the delivery's position
        self.failure: Exception | None = None
        self.is_over = False
        self.progress = threading.Event()  # replaced at each step

    @property
    def is_full(self) -> bool:
        return len(self.deliveries) >= MAX_GROUP or self.size >= MAX_GROUP_BYTES

    def add(self, delivery: Delivery) -> int:
        """Add a delivery; return its position."""
        self.deliveries.append(delivery)
        self.size += delivery.size
        return len(self.deliveries) - 1

    def wait(self, position: int, patience: float | None) -> bool:
        """Wait until the delivery has its receipt or the group is over; False if neither happens in `patience` s."""
        until = None if patience is None else time.monotonic() + patience
        while True:
            progress = self.progress  # before the look, so that no step is missed
            if position in self.receipts or self.is_over:
                return True
            if not progress.wait(None if until is None else max(0.0, until - time.monotonic())):
                return False

    def step(self) -> None:
        """Wake those who wait. Those without a receipt wait for the next step."""
        reached, self.progress = self.progress, threading.Event()
        reached.set()

    def end(self) -> None:
        self.is_over = True
        self.progress.set()


class Writer:
    """Group commit: deliveries that arrive while a group is being written form the next group.

    The first delivery of a group starts a thread that waits for the group's turn, writes the group, and wakes those
    who wait. The callers may be threads or greenlets.
    """

    def __init__(self, interpret: Interpret, save: Save, breaker: Breaker, spool: Spool) -> None:
        self._interpret = interpret
        self._save = save
        self._breaker = breaker
        self._spool = spool
        self._forming: _Group | None = None
        self._joining = threading.Lock()  # protects `_forming` and receipts
        self._turn = threading.Lock()
        self._leaving = threading.Lock()
        self._under_way = 0

    def submit(self, delivery: Delivery, patience: float | None = None) -> Receipt:
        """Return once the delivery is durable. Raises `StoreUnavailable` if neither store nor spool accepts it.

        After `patience` seconds of waiting for the store the delivery goes to the spool, whatever becomes of its
        group.
        """
        group, position = self._join(delivery, is_impatient=patience is not None)
        if position == 0:
            threading.Thread(target=self._lead, args=(group,), daemon=True).start()
        if not group.wait(position, patience):
            self._leave(group, position)
        if position not in group.receipts:
            raise group.failure or StoreUnavailable("writing was broken off; post it again")
        return group.receipts[position]

    def _join(self, delivery: Delivery, *, is_impatient: bool) -> tuple[_Group, int]:
        with self._joining:
            if self._forming is None or self._forming.is_full:
                self._forming = _Group()
            position = self._forming.add(delivery)
            if is_impatient:
                self._forming.impatient.append(position)
            return self._forming, position

    def _leave(self, group: _Group, position: int) -> None:
        """Spool all impatient deliveries together, with one sync. The store may receive them twice, but counts them
        once."""
        with self._leaving:
            if position in group.receipts:
                return
            leaving = {at: group.deliveries[at] for at in list(group.impatient) if at not in group.receipts}
            self._spool.append(list(leaving.values()))
            self._settle(group, {at: Receipt(delivery.id, Verdict.SPOOLED) for at, delivery in leaving.items()})

    def _lead(self, group: _Group) -> None:
        try:
            with self._turn:
                self._gather(group)
                self._close(group)
                self._write(group)
                size = len(group.deliveries)
                self._under_way = size + (len(self._forming.deliveries) if self._forming else 0) if size > 1 else 0
        finally:
            self._close(group)  # also if its turn never came
            group.end()

    def _gather(self, group: _Group) -> None:
        """Wait briefly until half of the deliveries of the previous round have joined: their senders post again soon.

        The other half arrives during the write and forms the next group. A single sender waits for nobody.
        """
        time.sleep(0)
        deadline = time.monotonic() + GATHER_SECONDS
        while len(group.deliveries) < self._under_way / 2 and not group.is_full and time.monotonic() < deadline:
            time.sleep(GATHER_SECONDS / 8)

    def _close(self, group: _Group) -> None:
        with self._joining:
            if self._forming is group:
                self._forming = None

    def _write(self, group: _Group) -> None:
        try:
            self._store_or_spool(group)
        except Exception as error:  # noqa: BLE001  every delivery that has no receipt has to learn of any failure
            group.failure = error

    def _settle(self, group: _Group, receipts: dict[int, Receipt]) -> None:
        """Assign the receipts; a delivery that has one keeps it. Each is counted by the verdict with which it became
        durable."""
        with self._joining:
            new_receipts = {at: receipt for at, receipt in receipts.items() if at not in group.receipts}
            group.receipts |= new_receipts
        counting.count_deliveries((group.deliveries[at], receipt.verdict) for at, receipt in new_receipts.items())

    def _store_or_spool(self, group: _Group) -> None:
        """Store the group, in parts if it is large once its bodies are inflated; settle each part once it is durable.
        What cannot be stored goes to the spool together."""
        # Large bodies take long to interpret, so other greenlets get a turn between the portions.
        portions = cooperatively(in_portions(group.deliveries))
        at = 0
        started = time.perf_counter()
        for readings in in_parts(map(self._interpret, portions)):
            metrics.INTERPRET_SECONDS.observe(time.perf_counter() - started)
            receipts = self._stored(readings)
            if receipts is None:
                left = group.deliveries[at:]
                self._spool.append(left)
                receipts = [Receipt(delivery.id, Verdict.SPOOLED) for delivery in left]
            self._settle(group, dict(enumerate(receipts, at)))
            at += len(receipts)
            if at == len(group.deliveries):
                return
            group.step()
            started = time.perf_counter()

    def _stored(self, readings: list[Reading]) -> list[Receipt] | None:
        """Return the receipts; None if the readings may not be stored. The commit may have succeeded nevertheless; a
        spooled copy has the same ids, so it counts once."""
        started = time.perf_counter()
        try:
            receipts = self._breaker.call(lambda: self._save(readings))
        except Exception as error:
            if not isinstance(error, StoreError):
                log.error("an unexpected failure while storing a group, which is spooled", exc_info=error)
            return None
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - started)
        metrics.GROUP_SIZE.observe(len(readings))
        return receipts
