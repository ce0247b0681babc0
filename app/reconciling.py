"""What is missing: expected calls whose results did not come are counted, and Plum is asked for them.

An answer enters as every delivery does, so a callback that comes later changes nothing twice.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from app import metrics
from app.errors import StoreError
from app.intake.writer import Record
from app.model import CallState, Delivery, ExpectedCall, Product, Via
from app.plum.client import ApiError, CallStatus, Refused, UnknownCall, WrongCredentials
from app.store import expected, missing
from app.store.database import Database
from app.store.integrations import integrations_by_name
from app.store.query.question import Question, Records

GRACE = timedelta(minutes=15)  # after its window, for a result that is on its way
AGAIN = timedelta(minutes=5)  # after which a call that is still running is asked for again, or one that was claimed
LONGEST = timedelta(hours=1)  # between two tries where Plum does not tell
AT_ONCE = 20
PAUSE_SECONDS = 5.0
EVERY = Question(records=Records.EXPECTED_CALLS)

log = logging.getLogger(__name__)

# Gives what Plum tells of a call of this product now; None where that cannot be asked. Raises `ApiError`.
Ask = Callable[[Product, str], CallStatus | None]


class Reconciler:
    """Looks for results that are due: first in the store, then at Plum."""

    def __init__(self, database: Database, record: Record, ask: Ask, now: Callable[[], datetime]) -> None:
        self._database = database
        self._record = record
        self._ask = ask
        self._now = now

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            try:
                done = self.step()
                metrics.MISSING_CALLS.set(missing.count_missing(self._database))
            except StoreError as error:
                log.warning("missing calls have to wait for the store: %s", error.detail)
                self._database.close()
                done = Counter()
            if not done:
                stop.wait(PAUSE_SECONDS)

    def all_of(self, question: Question, grace: timedelta) -> Counter[str]:
        """What came of all calls of the question that are missing, however lately they were asked for."""
        missing.make_due(self._database, question, self._now() - grace)
        results: Counter[str] = Counter()
        while some := self.step(question, grace):
            results += some
        return results

    def step(self, question: Question = EVERY, grace: timedelta = GRACE) -> Counter[str]:
        """What came of some that are due, by word; empty where none is. Raises `StoreUnavailable`."""
        now = self._now()
        calls = missing.claim_due(self._database, question, now - grace, now - grace + AGAIN, AT_ONCE)
        found = expected.find_results(self._database, [call.id for call in calls]) if calls else set()
        round_ = _Round(self._database, self._record, self._ask, now, now - grace)
        results = Counter(round_.look(call) for call in calls if call.id not in found)
        results += Counter({"received": len(found)})
        for result, count in results.items():
            metrics.RECONCILED.labels(result).inc(count)
        return results


class _Round:
    """Some calls in a row. Once Plum does not answer for one product, its others have to wait too."""

    def __init__(self, database: Database, record: Record, ask: Ask, now: datetime, looked_until: datetime) -> None:
        self._database = database
        self._record = record
        self._ask = ask
        self._now = now
        self._looked_until = looked_until  # what is due then is looked at now
        self._integrations = integrations_by_name(database)
        self._silent: set[Product] = set()

    def look(self, call: ExpectedCall) -> str:
        """What came of it: polled, running, unknown_to_plum, refused, not_reached or not_asked."""
        integration = self._integrations.get(call.integration)
        product = integration.product if integration else None
        if call.call_id is None or product not in (Product.INSIGHT, Product.FUSE):
            return self._settle(call, CallState.MISSING, "not_asked", polled=False, after=None)
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
        if isinstance(failure, Refused) and not isinstance(failure, WrongCredentials):
            return self._settle(call, CallState.REFUSED, "refused", after=None)
        log.warning("%s does not tell of calls that are missing: %s", product, failure)
        self._silent.add(product)
        return self._settle(call, CallState.MISSING, "not_reached", after=_backoff(call))

    def _keep(self, call: ExpectedCall, product: Product, status: CallStatus) -> str:
        delivery = Delivery(
            id=_delivery_id(call, status.body),
            integration=call.integration,
            product=product,
            received_at=self._now,
            via=Via.POLL,
            content_type=status.content_type,
            reference=call.reference,  # as the callback's URL has it: then both are the same reading
            batch=None if call.reference else call.batch,
            body=status.body,
        )
        [receipt] = self._record([delivery])
        if receipt.outcome_id is None:
            log.warning("what Plum told of a call that is missing cannot be read: delivery %s", receipt.delivery_id)
            return self._settle(call, CallState.MISSING, "not_understood", after=LONGEST)
        missing.link(self._database, call, receipt.outcome_id, self._now)
        return "polled"

    def _settle(
        self, call: ExpectedCall, state: CallState, result: str, *, polled: bool = True, after: timedelta | None
    ) -> str:
        due_at = None if after is None else self._looked_until + after
        missing.settle(self._database, call, state, self._now if polled else None, due_at)
        return result


def _backoff(call: ExpectedCall) -> timedelta:
    return min(LONGEST, timedelta(minutes=2 ** min(call.polls, 6)))


def _delivery_id(call: ExpectedCall, body: bytes) -> UUID:
    """The same for the same answer: who asks again after a kill keeps nothing twice. It sorts as others do."""
    milliseconds = int(call.registered_at.timestamp() * 1000)
    digest = int.from_bytes(hashlib.sha256(call.id.bytes + body).digest()[:10])
    value = milliseconds << 80 | digest
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


# --- counting


class Tally(NamedTuple):
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


def tallies(database: Database, question: Question, before: datetime, count_nameless: CountNameless) -> list[Tally]:
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
    come = count_nameless(sorted({name for name, _ in nameless})) if nameless else {}
    return [_tally(key, states[key], min(nameless[key], come.get(key, 0))) for key in sorted(states, key=str)]


def _tally(key: tuple[str, str | None], states: Counter[str], come: int) -> Tally:
    late = min(come, states[CallState.MISSING])
    return Tally(
        *key,
        expected=states.total(),
        received=states[CallState.RECEIVED] + states[CallState.POLLED] + come,
        missing=states[CallState.MISSING] - late,
        waiting=states[CallState.WAITING] - (come - late),
        polled=states[CallState.POLLED],
        unknown_to_plum=states[CallState.UNKNOWN_TO_PLUM],
        refused=states[CallState.REFUSED],
    )
