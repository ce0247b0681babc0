"""The identity of calls and the ids derived from it. The same input gives the same id in every process.

Only `new_id` returns a new id each time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.model import Delivery, Identity, Product, Report

_NAMESPACE = UUID("5f0d3bd6-6e2b-4b0c-9d7e-0d1f6a3c9b52")
# These stand where an outcome's id has its identity.
_START = "start"
_EXPECTED_BY_CALL_ID, _EXPECTED_OF_BATCH = "call", "batch"

encode = json.JSONEncoder(sort_keys=True, default=str).encode


def identity_of(
    delivery: Delivery,
    report: Report,
    call_id: str | None,
    message_reference: str | None,
    phone_raw: str | None,
    queued_at: datetime | None,
) -> tuple[Identity, list[str | None]]:
    """Return the first row of the contract's identity table that applies, and its key without the integration."""
    if delivery.reference is not None:
        return Identity.REFERENCE, [delivery.reference]
    if report.product is Product.DEV and call_id is not None:
        # A call_id is unique per Plum outbound server only, so the key includes the client's reference and the phone.
        return Identity.CALL_ID, [call_id, message_reference, phone_raw]
    if report.product is Product.FUSE and phone_raw is not None and queued_at is not None:
        return Identity.DERIVED, [phone_raw, queued_at.isoformat()]
    return Identity.NONE, [str(delivery.id)]


def outcome_id(identity: Identity, integration: str, key: Sequence[str | None]) -> UUID:
    return _id([identity, integration, *key])


def start_id(integration: str, call_id: str | None, message_reference: str | None, phone: str | None) -> UUID | None:
    """Return an id from what a call's start and its outcome have in common, or None without a call_id.

    `phone` is E.164 where it parses, since start and outcome may spell it differently.
    """
    return None if call_id is None else _id([_START, integration, call_id, message_reference, phone])


def expected_id(
    integration: str, reference: str | None, call_id: str | None, batch: str | None, phone_number: str | None
) -> UUID:
    """Return the id of an expected call from the first of these that is known: its reference (the id is then that of
    its outcome), its call id, its batch and phone number."""
    if reference is not None:
        return outcome_id(Identity.REFERENCE, integration, [reference])
    if call_id is not None:
        return _id([_EXPECTED_BY_CALL_ID, integration, call_id])
    return _id([_EXPECTED_OF_BATCH, integration, batch, phone_number])


def new_id(moment: datetime) -> UUID:
    """Return a new, unique id that sorts by time."""
    return by_time(moment, int.from_bytes(os.urandom(10)))


def by_time(moment: datetime, random: int) -> UUID:
    """Return a UUID of version 7 (RFC 9562) with 80 random bits. It sorts by time, so new rows are neighbours."""
    value = int(moment.timestamp() * 1000) << 80 | random & ((1 << 80) - 1)
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def _id(parts: Sequence[str | None]) -> UUID:
    """Return a UUID of version 5 (RFC 9562) from the parts."""
    name = _NAMESPACE.bytes + encode(parts).encode()
    return UUID(bytes=hashlib.sha1(name, usedforsecurity=False).digest()[:16], version=5)
