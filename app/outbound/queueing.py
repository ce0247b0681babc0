"""Queueing of calls at Plum. Each call is registered as expected first, so that its result finds it.

A queue request whose response is lost may have been carried out, so it is not repeated without `--again`. A call
that is expected but not known to be queued is reported as such.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import NamedTuple, TypeVar
from urllib.parse import quote
from uuid import UUID

from app.analytics.redial import DESTINATION
from app.errors import Contradicts, Exists, StoreError
from app.model import ExpectedCall, Integration, Product
from app.outbound.contact_list import Caller, Contact, contacts_of, expected_call, last_attempt_at, to_csv
from app.plum.client import BulkRequest, CallRequest, Client, FateUnknown, InvalidRequest, NothingQueued
from app.plum.client.contacts import contacts
from app.plum.client.requests import Terms
from app.store import expected
from app.store.database import Database

ROWS_AT_ONCE = 1000  # of a contact list in one request; so many calls are unknown if its response is lost

_Terms = TypeVar("_Terms", bound=Terms)
Clock = Callable[[], datetime]
NotToCall = Callable[[Collection[str]], Collection[str]]  # return those of these numbers that must not be called
Connect = Callable[[Product], AbstractContextManager[Client]]


@dataclass(frozen=True, slots=True)
class QueueTarget:
    """The integration of queued calls, and the URLs of one of its keys."""

    integration: Integration
    result_url: str
    start_url: str
    region: str

    @property
    def caller(self) -> Caller:
        return Caller(self.integration.name, self.region)

    @property
    def product(self) -> Product:
        """Raises `InvalidRequest` if the integration declares no product."""
        if self.integration.product is None:
            name = self.integration.name
            raise InvalidRequest("integration", f"one with a product; {name} has auto, so make one: integration add")
        return self.integration.product

    def addressed(self, terms: _Terms, kind: str, name: str) -> _Terms:
        """Set the URLs that Plum gets. DEV's start_url is ours by default."""
        start_url = terms.start_url or (self.start_url if self.product is Product.DEV else None)
        return replace(terms, result_url=f"{self.result_url}/{kind}/{quote(name, safe='')}", start_url=start_url)


class Queued(NamedTuple):
    """A queued call; `is_new` is False if it was queued before."""

    call_id: str | None
    reference: str
    result_url: str
    is_new: bool


def queue(
    database: Database,
    connect: Connect,
    target: QueueTarget,
    request: CallRequest,
    now: Clock,
    *,
    again: bool = False,
) -> Queued:
    """Queue one call once: for a reference that is queued already, return that call.

    `again` repeats a request whose fate is unknown, which else raises `Exists`. Raises `Contradicts` if the reference
    is of a call to another number, and the client's errors.
    """
    reference = request.reference or secrets.token_urlsafe(9)
    sent = target.addressed(replace(request, reference=reference), "call", reference)
    call = expected_call(sent, target.caller, now(), reference, None, request.phone, request.metadata)
    is_new = call.id in expected.add(database, [call])
    known = call if is_new else expected.get_calls(database, [call.id]).get(call.id, call)
    if _is_another(known, call):
        raise Contradicts(f"the reference {reference} is of a call to another number; nothing is queued")
    if known.queued_at:
        return Queued(known.call_id, reference, sent.result_url, is_new=False)
    if not is_new and not again:
        raise Exists(f"a call with the reference {reference} is expected and may be queued; to queue it now: --again")
    with connect(target.product) as client, _forgetting_refused(database, [call.id] if is_new else []):
        try:
            call_id = client.queue(sent)
        except FateUnknown as error:  # without the reference a repeated command would make another, and call twice
            raise FateUnknown(f"{error}; its reference is {reference}") from None
    _note_queued(database, [call], call_id, now())
    return Queued(call_id, reference, sent.result_url, is_new=True)


def _note_queued(database: Database, calls: Sequence[ExpectedCall], call_id: str | None, now: datetime) -> None:
    """Record that Plum has queued the calls. Raises `StoreError`, which tells what only Plum knows then."""
    try:
        expected.add(database, calls)  # again: a refusal of the same call may have made another process forget it
        expected.note_queued(database, [call.id for call in calls], call_id, now)
    except StoreError as error:
        which = (
            f"the call {calls[0].reference} as call_id {call_id}" if call_id else f"{len(calls)} calls of the list"
        )
        queued = f"Plum has queued {which}, which the store cannot note, so never queue it --again"
        raise StoreError(f"{queued}: {error}", f"{queued}: {error.detail}") from error


@contextmanager
def _forgetting_refused(database: Database, fresh: Sequence[UUID]) -> Iterator[None]:
    """Remove newly registered calls again if an error proves that Plum did not queue them."""
    try:
        yield
    except NothingQueued:
        if fresh:
            expected.forget(database, fresh)
        raise


# --- many


@dataclass(slots=True)
class Progress:
    """How many numbers of a contact list were queued now, queued before, repeated in the list, or may be queued."""

    queued: int = 0
    already_queued: int = 0
    repeated: int = 0
    unknown: int = 0


def bulk_queue(
    database: Database,
    connect: Connect,
    target: QueueTarget,
    terms: BulkRequest,
    now: Clock,
    progress: Progress,
    *,
    again: bool = False,
    one_by_one: bool = False,
    not_to_call: NotToCall | None = None,
) -> None:
    """Queue a contact list part by part, and count the numbers in `progress`.

    A batch has each number once. A repeated command queues only what is not queued yet. `one_by_one` queues each
    number by itself: that takes longer, but Plum returns each call's id, with which its result can be polled.
    `not_to_call` is asked before each part is queued: a list may take hours. Raises the client's errors; the parts
    before are queued then.
    """
    contacts(target.product.value, terms.csv)  # validates the whole list before anything is queued
    are_named = one_by_one or target.product is Product.DEV
    listed, progress.repeated = contacts_of(terms, target.caller, now(), are_named=are_named)
    _refuse_references_of_others(database, listed)
    by_number = expected.calls_by_number(database, target.integration.name, terms.name)
    with connect(target.product) as client:
        sending = _Sending(client, target, terms)
        send, size = (sending.one, 1) if one_by_one else (sending.together, ROWS_AT_ONCE)
        for start in range(0, len(listed), size):
            allowed = _allowed(listed[start : start + size], not_to_call)
            part = list(_not_tried(allowed, by_number, progress, again=again))
            _queue_part(database, part, terms, send, progress, now(), again=again)


def _allowed(part: Sequence[Contact], not_to_call: NotToCall | None) -> Sequence[Contact]:
    if not_to_call is None:
        return part
    barred = not_to_call({one.call.phone_number for one in part if one.call.phone_number})
    return [one for one in part if one.call.phone_number not in barred]


def _not_tried(
    part: Sequence[Contact], by_number: Mapping[str, Mapping[UUID, bool]], progress: Progress, *, again: bool
) -> Iterator[Contact]:
    """Yield those whose numbers the batch has not queued or, unless `again`, tried in the other way; count the
    others."""
    for one in part:
        is_queued = by_number.get(one.call.phone_number or "", {})
        if any(is_queued.values()):
            progress.already_queued += 1
        elif is_queued.keys() - {one.call.id} and not again:
            progress.unknown += 1
        else:
            yield one


def _refuse_references_of_others(database: Database, listed: Sequence[Contact]) -> None:
    """Raise `InvalidRequest` if a reference is known of another number or batch: its call would not be queued."""
    for start in range(0, len(listed), ROWS_AT_ONCE):
        calls = {one.call.id: one.call for one in listed[start : start + ROWS_AT_ONCE]}
        for key, known in expected.get_calls(database, list(calls)).items():
            if _is_another(known, calls[key]):
                place = f"message_reference {known.reference}"
                raise InvalidRequest(place, "of one call; a call of another number or batch has it")


def _is_another(known: ExpectedCall, call: ExpectedCall) -> bool:
    """True if the known call of the same reference has another number or batch; what is not known does not differ."""
    pairs = [(known.phone_number, call.phone_number), (known.batch, call.batch)]
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _queue_part(
    database: Database,
    part: Sequence[Contact],
    terms: Terms,
    send: Callable[[Sequence[Contact]], str | None],
    progress: Progress,
    now: datetime,
    *,
    again: bool,
) -> None:
    part = [
        one._replace(call=one.call._replace(registered_at=now, ends_at=last_attempt_at(terms, now))) for one in part
    ]
    fresh = expected.add(database, [one.call for one in part])
    # After the registration, so that of two commands that queue the list in both ways one sees the other.
    known = expected.get_calls(database, [key for one in part for key in (one.call.id, one.other)])
    calls_of = {one.call.id: [known[key] for key in (one.call.id, one.other) if key in known] for one in part}
    done = {key for key, calls in calls_of.items() if any(call.queued_at for call in calls)}
    tried = {key for key, calls in calls_of.items() if any(call.id not in fresh for call in calls)}
    unknown = set() if again else tried - done
    if elsewhere := fresh & (done | unknown):
        expected.forget(database, sorted(elsewhere))
    progress.already_queued += len(done)
    progress.unknown += len(unknown)
    wanted = [one for one in part if one.call.id not in done | unknown]
    if wanted:
        with _forgetting_refused(database, sorted(fresh - elsewhere)):
            call_id = send(wanted)
        _note_queued(database, [one.call for one in wanted], call_id, now)
        progress.queued += len(wanted)


@dataclass(frozen=True, slots=True)
class _Sending:
    """Sends parts of a contact list, in either way. A single call's id is returned."""

    client: Client
    target: QueueTarget
    terms: BulkRequest

    def together(self, part: Sequence[Contact]) -> None:
        sent = self.target.addressed(self.terms, "batch", self.terms.name)
        self.client.bulk_queue(replace(sent, csv=to_csv([one.row for one in part])))

    def one(self, part: Sequence[Contact]) -> str:
        [(call, _, row)] = part
        common = {field.name: getattr(self.terms, field.name) for field in fields(Terms)}
        reference = str(call.reference)
        metadata = {name: str(value) for name, value in call.metadata.items()}
        request = CallRequest(**common, phone=row[DESTINATION], reference=reference, metadata=metadata)
        return self.client.queue(self.target.addressed(request, "call", reference))
