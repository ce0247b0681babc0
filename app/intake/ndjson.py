"""Deliveries as lines of JSON, which `export --deliveries` writes and `import` reads. Pure.

The keys are the field names of the delivery record. Only the integration and the body are required; unknown keys are
ignored.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from app.errors import PlumError
from app.model import Delivery, Integration, Json, Verdict, Via
from app.values import EARLIEST, LATEST, storable

MAX_REFERENCE = 255
MAX_QUOTED = 80  # characters of a wrong value in a message
_LINES = UUID("5b0c7a52-6d0e-5a39-9d3e-2f1f6b3d9c11")


class BadLine(PlumError):
    """A line that is not a delivery; the text says why."""


def read_line(line: bytes, place: int, integrations: Mapping[str, Integration], now: datetime) -> Delivery:
    """Parse a line; `place` is the line's number. Raises `BadLine`."""
    values = _object(line)
    started = values.get("verdict") == Verdict.STARTED
    cut_short = values.get("reason") == "cut_short"
    integration = _integration(values, integrations)
    received_at = _moment(values.get("received_at"))
    delivery_id = _id(values.get("id"))
    return Delivery(
        id=delivery_id or _derived_id(line, place),
        integration=integration.name,
        product=integration.product,
        received_at=received_at or now,
        via=Via.IMPORT,
        body=_body(values, may_be_empty=started or cut_short),
        content_type=_text(values, "content_type"),
        headers=_headers(values.get("headers")),
        query=_text(values, "query") or "",
        remote_addr=_text(values, "remote_addr"),
        reference=_label(values, "reference"),
        batch=_label(values, "batch"),
        cut_short=cut_short,
        started=started,
    )


def _object(line: bytes) -> dict[str, Json]:
    try:
        values = json.loads(line.decode("utf-8-sig", "surrogatepass"))
    except UnicodeDecodeError:
        raise BadLine("not UTF-8") from None
    except RecursionError:
        raise BadLine("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BadLine(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except ValueError as error:  # a number of too many digits
        raise BadLine(f"not JSON: {error}") from None
    if not isinstance(values, dict):
        raise BadLine("not a JSON object")
    return values


def _integration(values: dict[str, Json], integrations: Mapping[str, Integration]) -> Integration:
    name = values.get("integration")
    if not isinstance(name, str):
        raise BadLine("integration is missing" if name is None else "integration is no text")
    if name not in integrations:
        raise BadLine(f"there is no integration {_quoted(name)}; make it: plum-outcomes integration add NAME")
    return integrations[name]


def _body(values: dict[str, Json], *, may_be_empty: bool) -> bytes:
    names = [name for name in ("body", "body_base64") if values.get(name) is not None]
    if len(names) != 1:
        raise BadLine(f"give one of body and body_base64{', not both' if names else ''}")
    text = values[names[0]]
    if not isinstance(text, str):
        raise BadLine(f"{names[0]} is no text")
    try:
        body = text.encode(errors="surrogatepass") if names == ["body"] else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadLine("body_base64 is not base64") from None
    if not body and not may_be_empty:  # a start has values in its query, and an incomplete body may be empty
        raise BadLine("the body is empty, which is a probe and no delivery")
    return body


def _moment(value: Json) -> datetime | None:
    """Parse a time; without an offset it is UTC."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        raise BadLine(f"received_at is no time like 2026-03-08T14:30:00Z: {_quoted(value)}") from None
    if not EARLIEST <= moment <= LATEST:
        raise BadLine(f"received_at lies before {EARLIEST.year} or after {LATEST.year}: {_quoted(value)}")
    return moment


def _quoted(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def _id(value: Json) -> UUID | None:
    try:
        return UUID(value) if value is not None else None
    except (ValueError, TypeError, AttributeError):
        raise BadLine(f"id is no UUID: {_quoted(value)}") from None


def _derived_id(line: bytes, place: int) -> UUID:
    """Return an id derived from the line and its number: two different callbacks may have identical bytes."""
    return uuid5(_LINES, f"{place}:{line.strip().decode('latin-1')}")


def _text(values: dict[str, Json], name: str) -> str | None:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise BadLine(f"{name} is no text")
    return storable(value)


def _label(values: dict[str, Json], name: str) -> str | None:
    """Return a reference or batch. Its exact text is part of the identity, so it is not made storable here."""
    value = values.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_REFERENCE:
        raise BadLine(f"{name} is no text of 1 to {MAX_REFERENCE} characters")
    return value


def _headers(value: Json) -> tuple[tuple[str, str], ...]:
    """Return the headers, from a list of pairs or from an object."""
    pairs: Any = list(value.items()) if isinstance(value, dict) else value or []
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        raise BadLine("headers are no list of [name, value]")
    return tuple((storable(name) or "", storable(text) or "") for name, text in pairs)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
