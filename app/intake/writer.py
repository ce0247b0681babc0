"""A delivery handed in is durable when `submit` returns: in the store, else in the spool, else it is refused."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from app import counting, metrics
from app.cooperative import cooperatively
from app.errors import StoreError, StoreUnavailable
from app.intake.breaker import Breaker
from app.intake.groups import in_groups
from app.intake.spool import Spool
from app.model import Delivery, Reading, Receipt, Verdict

MAX_GROUP = 256
MAX_GROUP_BYTES = 4 << 20
GATHER_SECONDS = 0.004
PORTION_BYTES = 32 << 10  # of a group's bodies, understood at a time; ordinary groups have less

Interpret = Callable[[Sequence[Delivery]], list[Reading]]
Save = Callable[[Sequence[Reading]], list[Receipt]]
Record = Callable[[Sequence[Delivery]], list[Receipt]]

log = logging.getLogger(__name__)


class _Group:
    """Deliveries that share a commit; once that is done, their receipts, or what stands against them all.

    The impatient ones, who did not wait so long, have theirs before, of the spool.
    """

    __slots__ = ("deliveries", "done", "failure", "impatient", "receipts", "size")

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.impatient: list[int] = []
        self.size = 0
        self.receipts: dict[int, Receipt] = {}  # by where the delivery stands
        self.failure: Exception | None = None
        self.done = threading.Event()

    @property
    def is_full(self) -> bool:
        return len(self.deliveries) >= MAX_GROUP or self.size >= MAX_GROUP_BYTES

    def add(self, delivery: Delivery) -> int:
        """Where among the others it stands."""
        self.deliveries.append(delivery)
        self.size += delivery.size
        return len(self.deliveries) - 1


class Writer:
    """Group commit: deliveries that come while a group is being written form the next one.

    The first of a group leads it: it waits for the turn of its group, writes it, and wakes the others. Nothing here
    knows whether callers are threads or greenlets.
    """

    def __init__(self, interpret: Interpret, save: Save, breaker: Breaker, spool: Spool) -> None:
        self._interpret = interpret
        self._save = save
        self._breaker = breaker
        self._spool = spool
        self._forming: _Group | None = None
        self._joining = threading.Lock()  # of the one above
        self._turn = threading.Lock()
        self._leaving = threading.Lock()
        self._under_way = 0

    def submit(self, delivery: Delivery, patience: float | None = None) -> Receipt:
        """Returns once the delivery is durable. Raises `StoreUnavailable` where neither store nor spool takes it.

        After so many seconds of `patience` with the store it goes to the spool, whatever its group comes to.
        """
        group, at = self._join(delivery, is_impatient=patience is not None)
        if at == 0 and patience is None:
            self._lead(group)
        elif at == 0:  # others may have to be led for longer than it waits
            threading.Thread(target=self._lead, args=(group,), daemon=True).start()
        if not group.done.wait(patience):
            self._leave(group, at)
        if at not in group.receipts:
            raise group.failure or StoreUnavailable("writing was broken off; post it again")
        return group.receipts[at]

    def _join(self, delivery: Delivery, *, is_impatient: bool) -> tuple[_Group, int]:
        with self._joining:
            if self._forming is None or self._forming.is_full:
                self._forming = _Group()
            at = self._forming.add(delivery)
            if is_impatient:
                self._forming.impatient.append(at)
            return self._forming, at

    def _leave(self, group: _Group, at: int) -> None:
        """All that are impatient go at once, for one sync. The store may get them both ways, and counts them once."""
        with self._leaving:
            if at in group.receipts:
                return
            going = {at: group.deliveries[at] for at in list(group.impatient) if at not in group.receipts}
            self._spool.append(list(going.values()))
            self._settle(group, {at: Receipt(one.id, Verdict.SPOOLED) for at, one in going.items()})

    def _lead(self, group: _Group) -> None:
        try:
            with self._turn:
                self._gather(group)
                self._close(group)
                self._write(group)
                size = len(group.deliveries)
                self._under_way = size + (len(self._forming.deliveries) if self._forming else 0) if size > 1 else 0
        finally:
            self._close(group)  # also where its turn never came
            group.done.set()

    def _gather(self, group: _Group) -> None:
        """Wait a little for half of those under way a moment ago: the ones just answered are about to come again.

        The other half come while these are written, and are the next group. A sender on its own waits for nobody.
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
            self._settle(group, dict(enumerate(self._store_or_spool(group.deliveries))))
        except Exception as error:  # noqa: BLE001  of whatever kind: each of the group has to hear of it
            group.failure = error

    def _settle(self, group: _Group, receipts: dict[int, Receipt]) -> None:
        """Hand out the receipts; those who have one keep it. Each counts as what it was when it became durable."""
        with self._joining:
            first = {at: receipt for at, receipt in receipts.items() if at not in group.receipts}
            group.receipts |= first
        counting.count_deliveries((group.deliveries[at], receipt.verdict) for at, receipt in first.items())

    def _store_or_spool(self, deliveries: list[Delivery]) -> list[Receipt]:
        # Large bodies take long to understand, so that others need a turn between them.
        started = time.perf_counter()
        portions = cooperatively(in_groups(deliveries, MAX_GROUP, PORTION_BYTES))
        readings = [reading for portion in portions for reading in self._interpret(portion)]
        metrics.INTERPRET_SECONDS.observe(time.perf_counter() - started)
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
