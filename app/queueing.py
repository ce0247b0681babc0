"""Calls are queued at Plum: each is expected before it is queued, so that no result can come before it is known.

A queue call whose answer is lost may have come through. It is never repeated unasked: what is expected and was not
seen to be queued is told as such.
"""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar
from urllib.parse import quote
from uuid import UUID

from app.errors import Exists
from app.identity import expected_id
from app.model import CallState, ExpectedCall, Integration, Product
from app.plum.client import BulkRequest, CallRequest, Client, InvalidRequest, NothingQueued
from app.plum.client.requests import Terms
from app.store import expected
from app.store.database import Database
from app.values import Odd, phone

ROWS_AT_ONCE = 1000  # of a contact list in one request: so many are unknown where its answer is lost
DESTINATION = "destination"
_REFERENCE = "message_reference"

_Terms = TypeVar("_Terms", bound=Terms)
Connect = Callable[[Product], AbstractContextManager[Client]]


@dataclass(frozen=True, slots=True)
class Line:
    """Where calls are queued, and where their results go: one integration's, under one of its keys."""

    integration: Integration
    result_url: str
    start_url: str
    region: str

    @property
    def product(self) -> Product:
        """Raises `InvalidRequest` for an integration of no product."""
        if self.integration.product is None:
            name = self.integration.name
            raise InvalidRequest("integration", f"one with a product; {name} has auto, so make one: integration add")
        return self.integration.product

    def addressed(self, terms: _Terms, kind: str, name: str) -> _Terms:
        """With the addresses that Plum gets; DEV asks ours for its script unless told another."""
        start_url = terms.start_url or (self.start_url if self.product is Product.DEV else None)
        return replace(terms, result_url=f"{self.result_url}/{kind}/{quote(name, safe='')}", start_url=start_url)


class Queued(NamedTuple):
    """A call as Plum took it; `is_new` is false where it had been queued before."""

    call_id: str | None
    reference: str
    result_url: str
    is_new: bool


def queue(
    database: Database, connect: Connect, line: Line, request: CallRequest, now: datetime, *, again: bool = False
) -> Queued:
    """Queue one call, once: with a reference that was queued already it only tells of that call.

    `again` repeats one whose fate is unknown. Raises `Exists` for such a one, else what the client raises.
    """
    reference = request.reference or secrets.token_urlsafe(9)
    name = line.integration.name
    call = ExpectedCall(
        id=expected_id(name, reference, None, None, None),
        integration=name,
        reference=reference,
        call_id=None,
        phone_number=_e164(request.phone, line.region),
        batch=None,
        ends_at=_ends_at(request, now),
        metadata=dict(request.metadata),
        state=CallState.WAITING,
        registered_at=now,
    )
    sent = line.addressed(replace(request, reference=reference), "call", reference)
    known = expected.get_calls(database, [call.id]).get(call.id)
    if known and known.queued_at:
        return Queued(known.call_id, reference, sent.result_url, is_new=False)
    if known and not again:
        raise Exists(f"a call with the reference {reference} is expected and may be queued; to queue it now: --again")
    with connect(line.product) as client:
        call_id = _queue_call(database, client, call, sent, now, is_known=known is not None)
    return Queued(call_id, reference, sent.result_url, is_new=True)


def _queue_call(
    database: Database, client: Client, call: ExpectedCall, sent: CallRequest, now: datetime, *, is_known: bool
) -> str:
    if not is_known:
        expected.register(database, [call])
    with _fate(database, [] if is_known else [call.id]):
        call_id = client.queue(sent)
    expected.note_queued(database, [call.id], call_id, now)
    return call_id


class _fate(AbstractContextManager[None]):  # noqa: N801
    """Whatever happens within, calls that Plum surely did not take are not expected any more."""

    def __init__(self, database: Database, fresh: Sequence[UUID]) -> None:
        self._database = database
        self._fresh = fresh

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NothingQueued) and self._fresh:
            expected.forget(self._database, self._fresh)


# --- many


@dataclass(slots=True)
class Batch:
    """How many numbers of a contact list were queued, had been before, stand there again, or may be queued."""

    queued: int = 0
    already_queued: int = 0
    repeated: int = 0
    unknown: int = 0


class _Contact(NamedTuple):
    call: ExpectedCall
    row: Mapping[str, str]


def bulk_queue(
    database: Database,
    connect: Connect,
    line: Line,
    terms: BulkRequest,
    now: datetime,
    batch: Batch,
    *,
    again: bool = False,
    one_by_one: bool = False,
) -> None:
    """Queue a contact list, a part at a time, and count in `batch` what came of it.

    A number counts once in a batch. Who begins again goes on with what was not queued. `one_by_one` queues each
    number by itself: that takes longer, and Plum tells each call's id, by which its result can be asked for. Raises
    what the client raises; parts before that are queued.
    """
    contacts = list(_contacts(line, terms, now, batch, are_named=one_by_one or line.product is Product.DEV))
    if not contacts:
        raise InvalidRequest("csv", "a list with at least one row below its header")
    with connect(line.product) as client:
        sending = _Sending(database, client, line, terms, now, batch)
        send = sending.one_by_one if one_by_one else sending.together
        for start in range(0, len(contacts), ROWS_AT_ONCE):
            some = contacts[start : start + ROWS_AT_ONCE]
            known = expected.get_calls(database, [one.call.id for one in some])
            done = {key for key, call in known.items() if call.queued_at}
            unknown = set() if again else known.keys() - done
            batch.already_queued += len(done)
            batch.unknown += len(unknown)
            if wanted := [one for one in some if one.call.id not in done | unknown]:
                send(wanted, known.keys())


@dataclass(frozen=True, slots=True)
class _Sending:
    """Sends parts of a contact list, in either way; `known` are the ids of calls that are expected already."""

    database: Database
    client: Client
    line: Line
    terms: BulkRequest
    now: datetime
    batch: Batch

    def together(self, contacts: Sequence[_Contact], known: Collection[UUID]) -> None:
        fresh = [one.call for one in contacts if one.call.id not in known]
        expected.register(self.database, fresh)
        sent = self.line.addressed(self.terms, "batch", self.terms.name)
        with _fate(self.database, [call.id for call in fresh]):
            self.client.bulk_queue(replace(sent, csv=_written([one.row for one in contacts])))
        expected.note_queued(self.database, [one.call.id for one in contacts], None, self.now)
        self.batch.queued += len(contacts)

    def one_by_one(self, contacts: Sequence[_Contact], known: Collection[UUID]) -> None:
        common = {field.name: getattr(self.terms, field.name) for field in fields(Terms)}
        for call, row in contacts:
            reference = str(call.reference)
            metadata = {name: str(value) for name, value in call.metadata.items()}
            request = CallRequest(**common, phone=row[DESTINATION], reference=reference, metadata=metadata)
            sent = self.line.addressed(request, "call", reference)
            _queue_call(self.database, self.client, call, sent, self.now, is_known=call.id in known)
            self.batch.queued += 1


def _contacts(line: Line, terms: BulkRequest, now: datetime, batch: Batch, *, are_named: bool) -> Iterator[_Contact]:
    """The list's rows, each number once; those that are named get a reference, by which their results name them."""
    seen: set[UUID] = set()
    for row in _rows(terms.csv):
        contact = _contact(line, terms, row, now, is_named=are_named)
        batch.repeated += contact.call.id in seen
        if contact.call.id not in seen:
            seen.add(contact.call.id)
            yield contact


def _contact(line: Line, terms: BulkRequest, row: Mapping[str, str], now: datetime, *, is_named: bool) -> _Contact:
    name, dialled = line.integration.name, row[DESTINATION]
    number = _e164(dialled, line.region)
    reference = row.get(_REFERENCE) or None
    if is_named and reference is None:
        # The same whenever the list is queued, so that beginning again repeats nothing.
        reference = str(expected_id(name, None, None, terms.name, number or dialled))
        row = {**row, _REFERENCE: reference}
    call = ExpectedCall(
        id=expected_id(name, reference, None, terms.name, number or dialled),
        integration=name,
        reference=reference,
        call_id=None,
        phone_number=number,
        batch=terms.name,
        ends_at=_ends_at(terms, now),
        metadata={column: text for column, text in row.items() if text and column not in (DESTINATION, _REFERENCE)},
        state=CallState.WAITING,
        registered_at=now,
    )
    return _Contact(call, row)


def _rows(content: bytes) -> Iterator[dict[str, str]]:
    """Raises `InvalidRequest` for what is no contact list."""
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True, restval="")
        if (reader.fieldnames or [""])[0] != DESTINATION:
            raise InvalidRequest("csv", "a list whose first header is destination")
        for row in reader:
            if None in row:
                raise InvalidRequest(f"csv line {reader.line_num}", "of at most as many cells as the header")
            yield row
    except (UnicodeDecodeError, csv.Error):
        raise InvalidRequest("csv", "CSV in UTF-8") from None


def _written(rows: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _e164(dialled: str, region: str) -> str | None:
    try:
        return phone(dialled, region)
    except Odd:
        return None


def _ends_at(terms: Terms, now: datetime) -> datetime:
    """When no further attempt begins; without a window and retries, at once."""
    waits = ((terms.max_attempts or 1) - 1) * (terms.reattempt_wait_seconds or 0)
    return terms.end or (terms.start or now) + timedelta(seconds=waits)
