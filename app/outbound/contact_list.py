"""Contact lists: each row becomes the call that is registered as expected before the row is queued. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from app.analytics.redial import DESTINATION
from app.identity import expected_id
from app.model import CallState, ExpectedCall
from app.plum.client import BulkRequest, InvalidRequest
from app.plum.client.requests import Terms
from app.values import BadValue, phone

_REFERENCE = "message_reference"


class Caller(NamedTuple):
    """The integration that queues, and the region of its national numbers."""

    integration: str
    region: str


class Contact(NamedTuple):
    """A row of the list with its call; `other` is the id that the call has if the list is queued in the other way."""

    call: ExpectedCall
    other: UUID
    row: Mapping[str, str]


def contacts_of(terms: BulkRequest, caller: Caller, now: datetime, *, are_named: bool) -> tuple[list[Contact], int]:
    """Return the rows of a valid list, each number once, and how many were repeated. With `are_named` each gets a
    reference that identifies its result.

    Raises `InvalidRequest` if two numbers have the same reference.
    """
    contacts: dict[str, Contact] = {}  # by number
    number_of: dict[UUID, str] = {}
    repeated = 0
    for row in csv.DictReader(io.StringIO(terms.csv.decode("utf-8-sig"), newline=""), restval=""):
        contact = _contact(terms, caller, row, now, is_named=are_named)
        number = contact.call.phone_number or row[DESTINATION]
        if number_of.setdefault(contact.call.id, number) != number:
            raise InvalidRequest(f"message_reference {contact.call.reference}", "of one number; two rows have it")
        repeated += number in contacts
        contacts.setdefault(number, contact)
    return list(contacts.values()), repeated


def _contact(terms: BulkRequest, caller: Caller, row: Mapping[str, str], now: datetime, *, is_named: bool) -> Contact:
    # Insight and Fuse return no reference of a list's rows: there the column is metadata like any other.
    dialled, reference = row[DESTINATION], (row.get(_REFERENCE) or None) if is_named else None
    # Every run derives the same reference, so a repeated command queues nothing twice.
    number = _e164(dialled, caller.region) or dialled
    unnamed = expected_id(caller.integration, None, None, terms.name, number)
    other = unnamed if is_named else expected_id(caller.integration, str(unnamed), None, None, None)
    if is_named and reference is None:
        reference = str(unnamed)
        row = {**row, _REFERENCE: reference}
    own = {DESTINATION, _REFERENCE} if is_named else {DESTINATION}
    metadata = {column: text for column, text in row.items() if text and column not in own}
    return Contact(expected_call(terms, caller, now, reference, terms.name, dialled, metadata), other, row)


def expected_call(
    terms: Terms,
    caller: Caller,
    now: datetime,
    reference: str | None,
    batch: str | None,
    dialled: str,
    metadata: Mapping[str, str],
) -> ExpectedCall:
    """Return the call that the request will make Plum dial."""
    number = _e164(dialled, caller.region)
    return ExpectedCall(
        id=expected_id(caller.integration, reference, None, batch, number or dialled),
        integration=caller.integration,
        reference=reference,
        call_id=None,
        phone_number=number,
        batch=batch,
        ends_at=last_attempt_at(terms, now),
        metadata=dict(metadata),
        state=CallState.WAITING,
        registered_at=now,
    )


def last_attempt_at(terms: Terms, now: datetime) -> datetime:
    """Return when the last attempt may begin; without a window and retries, now."""
    waits = ((terms.max_attempts or 1) - 1) * (terms.reattempt_wait_seconds or 0)
    return terms.end or max(terms.start or now, now) + timedelta(seconds=waits)


def to_csv(rows: Sequence[Mapping[str, str]]) -> bytes:
    """Return the rows as a contact list."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _e164(dialled: str, region: str) -> str | None:
    try:
        return phone(dialled, region)
    except BadValue:
        return None
