"""Deliveries as the spool writes them: records one behind the other, each found and checked by itself. Pure.

A record is a header (lengths and CRC-32 of what follows), the delivery's envelope as JSON, and the body's bytes.
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

VERSION = 1  # of the envelope; those written before it was counted say none

_HEADER = struct.Struct(">4sIII")
_MAGIC = b"PLM1"
_ENVELOPE = [name for name in Delivery._fields if name != "body"]


class Record(NamedTuple):
    """Where it stands among the bytes; without a delivery it is damage."""

    start: int
    end: int
    delivery: Delivery | None


def packed(delivery: Delivery) -> bytes:
    values = {"version": VERSION} | {name: getattr(delivery, name) for name in _ENVELOPE}
    envelope = json.dumps(values, default=str).encode()
    checksum = zlib.crc32(delivery.body, zlib.crc32(envelope))
    return _HEADER.pack(_MAGIC, len(envelope), len(delivery.body), checksum) + envelope + delivery.body


def records(content: bytes, at: int = 0) -> Iterator[Record]:
    """All from there on. Damage costs the records that it lies in, never those behind them."""
    while at < len(content):
        record = _record(content, at) or Record(at, _next_start(content, at), None)
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
        return Record(at, end, _delivery(json.loads(content[start:middle]), content[middle:end]))
    except (ValueError, KeyError, TypeError):  # a newer program's; it is kept like damage
        return None


def _declared_end(content: bytes, at: int) -> int | None:
    """Where the record ends by its header; None where there is no header, or it ends beyond the bytes."""
    if not content.startswith(_MAGIC, at) or at + _HEADER.size > len(content):
        return None
    _, envelope_size, body_size, _ = _HEADER.unpack_from(content, at)
    end: int = at + _HEADER.size + envelope_size + body_size
    return end if end <= len(content) else None


def _next_start(content: bytes, at: int) -> int:
    """Where the damage that begins here ends. A header that leads to another one is believed before any other sign,
    which may stand in a body."""
    end = _declared_end(content, at)
    if end is not None and (end == len(content) or content.startswith(_MAGIC, end)):
        return end
    start = content.find(_MAGIC, at + 1)
    while start != -1 and _record(content, start) is None:
        start = content.find(_MAGIC, start + 1)
    return len(content) if start == -1 else start


def _delivery(values: dict[str, Any], body: bytes) -> Delivery:
    if values.pop("version", VERSION) != VERSION:
        raise ValueError("of a newer program")
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
