"""Reconciliation: counts expected calls without a result, and asks Plum for their results.

Plum's response is stored like any delivery, so a callback that arrives later has no second effect.
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
from app.model import CallState, Delivery, ExpectedCall, Identity, Outcome, Product, Via
from app.plum.client import ApiError, CallStatus, InvalidRequest, NotPermitted, UnknownCall
from app.store import expected, missing
from app.store.database import Database
from app.store.integrations import integrations_by_name
from app.store.query.question import Question, Records

GRACE = timedelta(minutes=15)  # after a call's window, for a result that is on its way
AGAIN = timedelta(minutes=5)  # until the next request about a call that is running or claimed
LONGEST = timedelta(hours=1)  # between two attempts while Plum does not respond
AT_ONCE = 20
PAUSE_SECONDS = 5.0
COUNT_SECONDS = 60.0  # between two counts of all calls
EVERY = Question(records=Records.EXPECTED_CALLS)

log = logging.getLogger(__name__)

# Return Plum's status of a call of this product; None if there is no account to ask with. Raises `ApiError`.
Ask = Callable[[Product, str], CallStatus | None]


class Reconciler:
    """Looks for due results: first in the store, then at Plum."""

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
        """Run until `stop` is set."""
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
        """Process some due calls; return how many had each result, empty if none is due."""
        return self._round(GRACE).step(EVERY)

    def all_of(self, question: Question, grace: timedelta) -> Counter[str]:
        """Process all missing calls of the query, however recently Plum was asked for them; return their results."""
        round_ = self._round(grace)
        missing.make_due(self._database, question, round_.due_before)
        results: Counter[str] = Counter()
        while batch := round_.step(question):
            results += batch
        return results

    def _round(self, grace: timedelta) -> _Round:
        return _Round(self._database, self._read, self._save, self._ask, self._now, self._now() - grace)


class _Round:
    """The calls that are due at one moment. If Plum does not respond for a product, its other calls are postponed."""

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
        """Process some of the calls; return how many had each result."""
        calls = missing.claim_due(self._database, question, self.due_before, self.due_before + AGAIN, AT_ONCE)
        found = expected.find_results(self._database, [call.id for call in calls]) if calls else set()
        results = Counter(self._look(call) for call in calls if call.id not in found)
        results += Counter({"received": len(found)})
        for result, count in results.items():
            metrics.RECONCILED.labels(result).inc(count)
        return results

    def _look(self, call: ExpectedCall) -> str:
        """Process one call; return its result, a label of `plum_reconciled_calls_total`."""
        integration = self._integrations.get(call.integration)
        product = integration.product if integration else None
        if call.call_id is None or product not in (Product.INSIGHT, Product.FUSE):
            # Insight's batch results do not identify calls: only the number of missing results of the batch is known.
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
        if isinstance(failure, InvalidRequest):  # not a valid id of Plum's
            return self._settle(call, CallState.MISSING, "not_asked", polled=False, after=None)
        log.warning("Plum's API of %s does not give the status of missing calls: %s", product, failure)
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
            reference=call.reference,  # like the callback's URL, so that both are the same reading
            batch=None if call.reference else call.batch,
            body=status.body,
        )
        [reading] = self._read([delivery])
        if reading.outcome is None:
            log.warning("Plum's status of a missing call does not parse: %s", reading.reason)
            return self._settle(call, CallState.MISSING, "not_understood", after=LONGEST)
        if reading.outcome.identity is Identity.NONE and self._link_twin(call, reading.outcome):
            return "received"
        if not missing.intend(self._database, call, reading.outcome.id):
            return "received"
        [receipt] = self._save([reading])
        missing.link(self._database, call, receipt.outcome_id or reading.outcome.id, self._now())
        return "polled"

    def _link_twin(self, call: ExpectedCall, outcome: Outcome) -> bool:
        """Link the call to a result like this one that no other call has; return False if there is none."""
        while twin := missing.find_twin(self._database, outcome):
            if missing.link_twin(self._database, call, twin, self._now()):
                return True
        return False

    def _settle(
        self, call: ExpectedCall, state: CallState, result: str, *, polled: bool = True, after: timedelta | None
    ) -> str:
        """Note the result. The call is due again `after` the round's moment, so never twice in one round."""
        due_at = None if after is None else self.due_before + after
        missing.settle(self._database, call, state, self._now() if polled else None, due_at)
        return result


def _backoff(call: ExpectedCall) -> timedelta:
    return min(LONGEST, timedelta(minutes=2 ** min(call.polls, 6)))


def _delivery_id(call: ExpectedCall, body: bytes) -> UUID:
    """Return an id that sorts by time, the same for the same response: a repeat stores nothing twice."""
    return by_time(call.registered_at, int.from_bytes(hashlib.sha256(call.id.bytes + body).digest()[:10]))


# --- counting


class CallCounts(NamedTuple):
    """The number of a batch's expected calls in each state; `received` includes `polled`."""

    integration: str
    batch: str | None
    expected: int
    received: int
    missing: int
    waiting: int
    polled: int
    unknown_to_plum: int
    refused: int


# Return by integration and batch how many outcomes have the identity `none`.
CountNameless = Callable[[Sequence[str]], "dict[tuple[str, str | None], int]"]

_BATCH_FILTERS = {"integration", "batch"}  # filters that select whole batches


def call_counts(
    database: Database, question: Question, before: datetime, count_nameless: CountNameless
) -> list[CallCounts]:
    """Count expected calls by integration and batch. A call is missing if its window and grace ended `before`.

    Insight's batch results do not identify calls, so for such a batch only the number of results is known.
    """
    states: dict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
    nameless: Counter[tuple[str, str | None]] = Counter()
    for row in missing.count_states(database, question, before):
        key = row["integration"], row["batch"]
        states[key][row["state"]] += row["count"]
        if row["is_nameless"] and row["state"] in (CallState.MISSING, CallState.WAITING):
            nameless[key] += row["count"]
    are_whole = not question.hours and {condition.field for condition in question.conditions} <= _BATCH_FILTERS
    names = sorted({name for name, _ in nameless}) if are_whole else []
    arrived: Counter[tuple[str, str | None]] = Counter()
    if names:  # less the results that other calls have
        arrived = Counter(count_nameless(names)) - Counter(missing.count_linked(database, names))
    return [_counts(key, states[key], min(nameless[key], arrived[key])) for key in sorted(states, key=str)]


def _counts(key: tuple[str, str | None], states: Counter[str], arrived: int) -> CallCounts:
    """`arrived` results do not identify calls: they count for missing calls first, then for waiting ones."""
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
