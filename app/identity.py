"""What tells calls apart, and the ids that are made of it: any process, on any day, makes the same.

`new_id` alone makes another each time.
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
# In the place of an identity.
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
    """What tells this call from others; the contract's table, its first row that holds."""
    if delivery.reference is not None:
        return Identity.REFERENCE, [delivery.reference]
    if report.product is Product.DEV and call_id is not None:
        # A call_id is unique per Plum outbound server only, so the client's own reference and the phone join in.
        return Identity.CALL_ID, [call_id, message_reference, phone_raw]
    if report.product is Product.FUSE and phone_raw is not None and queued_at is not None:
        return Identity.DERIVED, [phone_raw, queued_at.isoformat()]
    return Identity.NONE, [str(delivery.id)]


def outcome_id(identity: Identity, integration: str, key: Sequence[str | None]) -> UUID:
    return _id([identity, integration, *key])


def start_id(integration: str, call_id: str | None, message_reference: str | None, phone: str | None) -> UUID | None:
    """By what a call's start and its outcome have in common; `phone` is E.164 where it parses, for they may spell it
    differently. None without a call_id: then nothing tells whose start it is."""
    return None if call_id is None else _id([_START, integration, call_id, message_reference, phone])


def expected_id(
    integration: str, reference: str | None, call_id: str | None, batch: str | None, phone_number: str | None
) -> UUID:
    """Of a call that was queued, by the first of these that is known: the reference, which gives the id of the
    outcome; the call id; the batch with the number."""
    if reference is not None:
        return outcome_id(Identity.REFERENCE, integration, [reference])
    if call_id is not None:
        return _id([_EXPECTED_BY_CALL_ID, integration, call_id])
    return _id([_EXPECTED_OF_BATCH, integration, batch, phone_number])


def new_id(moment: datetime) -> UUID:
    """One that sorts by time, unlike any other."""
    return by_time(moment, int.from_bytes(os.urandom(10)))


def by_time(moment: datetime, random: int) -> UUID:
    """A UUID that sorts by time (version 7, RFC 9562), so that new rows lie beside one another; of 80 random bits."""
    value = int(moment.timestamp() * 1000) << 80 | random & ((1 << 80) - 1)
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def _id(parts: Sequence[str | None]) -> UUID:
    """A UUID made of the parts (version 5, RFC 9562)."""
    name = _NAMESPACE.bytes + encode(parts).encode()
    return UUID(bytes=hashlib.sha1(name, usedforsecurity=False).digest()[:16], version=5)
