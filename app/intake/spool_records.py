"""The spool's records: serialised deliveries in sequence, each of which can be located and checked on its own. Pure.

A record is a header (lengths and CRC-32 of the rest), the delivery's envelope as JSON, and the body.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from app.model import Delivery, Product, Via

VERSION = 1  # of the envelope; records of the first releases state none

_HEADER = struct.Struct(">4sIII")
_MAGIC = b"PLM1"
_ENVELOPE = [name for name in Delivery._fields if name != "body"]


class Record(NamedTuple):
    """A record's position in the content; without a delivery it is damage, or, if it is whole, of a newer release."""

    start: int
    end: int
    delivery: Delivery | None = None
    is_whole: bool = False


def packed(delivery: Delivery) -> bytes:
    values = {"version": VERSION} | {name: getattr(delivery, name) for name in _ENVELOPE}
    envelope = json.dumps(values, default=str).encode()
    checksum = zlib.crc32(delivery.body, zlib.crc32(envelope))
    return _HEADER.pack(_MAGIC, len(envelope), len(delivery.body), checksum) + envelope + delivery.body


def records(content: bytes, at: int = 0) -> Iterator[Record]:
    """Yield all records from position `at` on. Damage costs only the records that contain it, never those after
    it."""
    while at < len(content):
        record = _record(content, at) or Record(at, _next_start(content, at))
        yield record
        at = record.end


def _record(content: bytes, at: int) -> Record | None:
    end = _declared_end(content, at)
    if end is None:
        return None
    _, envelope_size, _, checksum = _HEADER.unpack_from(content, at)
    start, middle = at + _HEADER.size, at + _HEADER.size + envelope_size
    if zlib.crc32(content[start:end]) != checksum:
        return None
    try:
        return Record(at, end, _delivery(json.loads(content[start:middle]), content[middle:end]), is_whole=True)
    except (ValueError, KeyError, TypeError):  # written by a newer release; it is kept like damage
        return Record(at, end, is_whole=True)


def _declared_end(content: bytes, at: int) -> int | None:
    """Return the record's end according to its header; None without a header, or if the end is beyond the content."""
    if not content.startswith(_MAGIC, at) or at + _HEADER.size > len(content):
        return None
    _, envelope_size, body_size, _ = _HEADER.unpack_from(content, at)
    end: int = at + _HEADER.size + envelope_size + body_size
    return end if end <= len(content) else None


def _next_start(content: bytes, at: int) -> int:
    """Return the position where the damage ends. A header that leads to another header is trusted first, since any
    other magic number may be part of a body."""
    end = _declared_end(content, at)
    if end is not None and (end == len(content) or content.startswith(_MAGIC, end)):
        return end
    start = content.find(_MAGIC, at + 1)
    while start != -1 and _record(content, start) is None:
        start = content.find(_MAGIC, start + 1)
    return len(content) if start == -1 else start


def _delivery(values: dict[str, Any], body: bytes) -> Delivery:
    if values.pop("version", VERSION) != VERSION:
        raise ValueError("written by a newer program")
    return Delivery(
        **values
        | {
            "id": UUID(values["id"]),
            "received_at": datetime.fromisoformat(values["received_at"]),
            "product": Product(values["product"]) if values["product"] else None,
            "headers": tuple((name, value) for name, value in values["headers"]),
            "via": Via.SPOOL,
            "body": body,
        }
    )
