"""What is missing: expected calls whose results did not come are counted, and Plum is asked for them.

An answer enters as every delivery does, so a callback that comes later changes nothing twice.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from app import metrics
from app.errors import StoreError
from app.identity import by_time
from app.intake.writer import Interpret, Save
from app.model import CallState, Delivery, ExpectedCall, Identity, Product, Via
from app.plum.client import ApiError, CallStatus, InvalidRequest, NotPermitted, UnknownCall
from app.store import expected, missing
from app.store.database import Database
from app.store.integrations import integrations_by_name
from app.store.query.question import Question, Records

GRACE = timedelta(minutes=15)  # after its window, for a result that is on its way
AGAIN = timedelta(minutes=5)  # after which a call that is still running is asked for again, or one that was claimed
LONGEST = timedelta(hours=1)  # between two tries where Plum does not tell
AT_ONCE = 20
PAUSE_SECONDS = 5.0
COUNT_SECONDS = 60.0  # between two counts of all calls
EVERY = Question(records=Records.EXPECTED_CALLS)

log = logging.getLogger(__name__)

# Gives what Plum tells of a call of this product now; None where that cannot be asked. Raises `ApiError`.
Ask = Callable[[Product, str], CallStatus | None]


class Reconciler:
    """Looks for results that are due: first in the store, then at Plum."""

    def __init__(
        self, database: Database, read: Interpret, save: Save, ask: Ask, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._read = read
        self._save = save
        self._ask = ask
        self._now = now
        self._count_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            metrics.CHORE_RUNS.labels("reconcile").inc()
            try:
                done = self.step()
                self._show()
            except StoreError as error:
                metrics.CHORE_FAILURES.labels("reconcile").inc()
                log.warning("missing calls have to wait for the store: %s", error.detail)
                self._database.close()
                done = Counter()
            if not done:
                stop.wait(PAUSE_SECONDS)

    def _show(self) -> None:
        metrics.MISSING_CALLS.set(missing.count_missing(self._database))
        if time.monotonic() >= self._count_at:
            self._count_at = time.monotonic() + COUNT_SECONDS
            counts = missing.count_by_state(self._database)
            for state in CallState:
                metrics.EXPECTED_CALLS.labels(state).set(counts.get(state, 0))

    def step(self) -> Counter[str]:
        """What came of some that are due, by word; empty where none is. Raises `StoreUnavailable`."""
        return self._round(GRACE).step(EVERY)

    def all_of(self, question: Question, grace: timedelta) -> Counter[str]:
        """What came of all calls of the question that are missing now, however lately they were asked for."""
        round_ = self._round(grace)
        missing.make_due(self._database, question, round_.due_before)
        results: Counter[str] = Counter()
        while some := round_.step(question):
            results += some
        return results

    def _round(self, grace: timedelta) -> _Round:
        return _Round(self._database, self._read, self._save, self._ask, self._now, self._now() - grace)


class _Round:
    """Calls that were due at one moment. Once Plum does not answer for a product, its others have to wait too."""

    def __init__(
        self,
        database: Database,
        read: Interpret,
        save: Save,
        ask: Ask,
        now: Callable[[], datetime],
        due_before: datetime,
    ) -> None:
        self.due_before = due_before
        self._database = database
        self._read = read
        self._save = save
        self._ask = ask
        self._now = now
        self._integrations = integrations_by_name(database)
        self._silent: set[Product] = set()

    def step(self, question: Question) -> Counter[str]:
        """What came of some."""
        calls = missing.claim_due(self._database, question, self.due_before, self.due_before + AGAIN, AT_ONCE)
        found = expected.find_results(self._database, [call.id for call in calls]) if calls else set()
        results = Counter(self._look(call) for call in calls if call.id not in found)
        results += Counter({"received": len(found)})
        for result, count in results.items():
            metrics.RECONCILED.labels(result).inc(count)
        return results

    def _look(self, call: ExpectedCall) -> str:
        """What came of it, as `plum_reconciled_calls_total` tells it."""
        integration = self._integrations.get(call.integration)
        product = integration.product if integration else None
        if call.call_id is None or product not in (Product.INSIGHT, Product.FUSE):
            # Insight's results of a batch name nothing: whether this one is missing is known of its batch alone.
            is_counted = product is Product.INSIGHT and call.reference is None
            state = CallState.WAITING if is_counted else CallState.MISSING
            return self._settle(call, state, "not_asked", polled=False, after=None)
        if product in self._silent:
            return self._settle(call, CallState.MISSING, "not_reached", polled=False, after=_backoff(call))
        try:
            status = self._ask(product, call.call_id)
        except ApiError as failure:
            return self._failed(call, product, failure)
        if status is None:
            return self._settle(call, CallState.MISSING, "not_asked", polled=False, after=LONGEST)
        if not status.is_final:
            return self._settle(call, CallState.WAITING, "running", after=AGAIN)
        return self._keep(call, product, status)

    def _failed(self, call: ExpectedCall, product: Product, failure: ApiError) -> str:
        if isinstance(failure, UnknownCall):
            return self._settle(call, CallState.UNKNOWN_TO_PLUM, "unknown_to_plum", after=None)
        if isinstance(failure, NotPermitted):
            return self._settle(call, CallState.REFUSED, "refused", after=None)
        if isinstance(failure, InvalidRequest):  # no id that Plum gives
            return self._settle(call, CallState.MISSING, "not_asked", polled=False, after=None)
        log.warning("%s does not tell of calls that are missing: %s", product, failure)
        self._silent.add(product)
        return self._settle(call, CallState.MISSING, "not_reached", after=_backoff(call))

    def _keep(self, call: ExpectedCall, product: Product, status: CallStatus) -> str:
        delivery = Delivery(
            id=_delivery_id(call, status.body),
            integration=call.integration,
            product=product,
            received_at=self._now(),
            via=Via.POLL,
            content_type=status.content_type,
            reference=call.reference,  # as the callback's URL has it: then both are the same reading
            batch=None if call.reference else call.batch,
            body=status.body,
        )
        [reading] = self._read([delivery])
        if reading.outcome is None:
            log.warning("what Plum tells of a call that is missing cannot be read: %s", reading.reason)
            return self._settle(call, CallState.MISSING, "not_understood", after=LONGEST)
        if reading.outcome.identity is Identity.NONE and (twin := missing.find_twin(self._database, reading.outcome)):
            missing.link(self._database, call, twin, CallState.RECEIVED, self._now())
            return "received"
        [receipt] = self._save([reading])
        missing.link(self._database, call, receipt.outcome_id or reading.outcome.id, CallState.POLLED, self._now())
        return "polled"

    def _settle(
        self, call: ExpectedCall, state: CallState, result: str, *, polled: bool = True, after: timedelta | None
    ) -> str:
        """`after` is counted from when it was due, so that nothing comes again in the same round."""
        due_at = None if after is None else self.due_before + after
        missing.settle(self._database, call, state, self._now() if polled else None, due_at)
        return result


def _backoff(call: ExpectedCall) -> timedelta:
    return min(LONGEST, timedelta(minutes=2 ** min(call.polls, 6)))


def _delivery_id(call: ExpectedCall, body: bytes) -> UUID:
    """The same for the same answer: who asks again after a kill keeps nothing twice. It sorts as others do."""
    return by_time(call.registered_at, int.from_bytes(hashlib.sha256(call.id.bytes + body).digest()[:10]))


# --- counting


class CallCounts(NamedTuple):
    """The expected calls of one batch, by what is known of them; `received` includes those `polled`."""

    integration: str
    batch: str | None
    expected: int
    received: int
    missing: int
    waiting: int
    polled: int
    unknown_to_plum: int
    refused: int


# Gives how many outcomes that name no call each of these integrations' batches has.
CountNameless = Callable[[Sequence[str]], "dict[tuple[str, str | None], int]"]

_OF_BATCHES = {"integration", "batch"}  # filters that leave batches whole


def call_counts(
    database: Database, question: Question, before: datetime, count_nameless: CountNameless
) -> list[CallCounts]:
    """By integration and batch; calls whose window and grace ended `before` without a result are missing.

    Insight's results of a batch name no call at all, so of such a batch it is known only how many have come.
    """
    states: dict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
    nameless: Counter[tuple[str, str | None]] = Counter()
    for row in missing.count_states(database, question, before):
        key = row["integration"], row["batch"]
        states[key][row["state"]] += row["count"]
        if row["is_nameless"] and row["state"] in (CallState.MISSING, CallState.WAITING):
            nameless[key] += row["count"]
    are_whole = not question.hours and {condition.field for condition in question.conditions} <= _OF_BATCHES
    arrived = count_nameless(sorted({name for name, _ in nameless})) if nameless and are_whole else {}
    return [_counts(key, states[key], min(nameless[key], arrived.get(key, 0))) for key in sorted(states, key=str)]


def _counts(key: tuple[str, str | None], states: Counter[str], arrived: int) -> CallCounts:
    """`arrived` results name no call: they count for those that are missing, then for those that wait."""
    of_missing = min(arrived, states[CallState.MISSING])
    return CallCounts(
        *key,
        expected=states.total(),
        received=states[CallState.RECEIVED] + states[CallState.POLLED] + arrived,
        missing=states[CallState.MISSING] - of_missing,
        waiting=states[CallState.WAITING] - (arrived - of_missing),
        polled=states[CallState.POLLED],
        unknown_to_plum=states[CallState.UNKNOWN_TO_PLUM],
        refused=states[CallState.REFUSED],
    )
