"""Cursors: opaque tokens of the rows at which pages end. Only cursors written here are accepted."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from marshmallow import Schema, ValidationError
from marshmallow.fields import Field

from app.store.query.question import LONG, Digest, Edge, Question
from app.web.fields import Text

_DIGEST = "digest"
_SUM_BYTES = 6


def write(schema: Schema, question: Question, values: Sequence[Any], *, backwards: bool) -> str:
    """Return the cursor of the row at a page's edge; `values` are the row's values of the sort order's fields."""
    encoded = [
        _encoded(schema, order.field, value) for order, value in zip(question.whole_order, values, strict=True)
    ]
    content = json.dumps([backwards, _signature(question), encoded], ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(_sum(content) + content).decode().rstrip("=")


def read(schema: Schema, question: Question, mark: str) -> Edge:
    """Parse a cursor. Raises `ValidationError` if it is none of this question's records in this sort order."""
    try:
        decoded = base64.b64decode((mark + "=" * (-len(mark) % 4)).encode("ascii"), b"-_", validate=True)
        checksum, content = decoded[:_SUM_BYTES], decoded[_SUM_BYTES:]
        backwards, signature, encoded = json.loads(content)
        if checksum != _sum(content) or signature != _signature(question) or not isinstance(backwards, bool):
            raise ValueError
        return Edge(_values(schema, question, encoded), backwards)
    except (ValidationError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValidationError("not a cursor of this list in this order; take it from next or prev") from None


def _encoded(schema: Schema, field: str, value: Any) -> Any:
    if isinstance(value, Digest):
        return {_DIGEST: value.hex}
    text = _text(schema.fields[field].serialize(field, {field: value}))
    return {_DIGEST: Digest.of(text).hex} if text and len(text) > LONG else text


def _text(value: Any) -> str | None:
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)


def _values(schema: Schema, question: Question, encoded: Sequence[Any]) -> list[Any]:
    """Parse the values, each checked, since a client can write a cursor itself."""
    columns = [question.records.table.c[order.field] for order in question.whole_order]
    return [
        _value(schema.fields[column.name], bool(column.nullable), value)
        for column, value in zip(columns, encoded, strict=True)
    ]


def _value(field: Field[Any], may_be_null: bool, encoded: Any) -> Any:
    if encoded is None and not may_be_null:
        raise ValueError
    if isinstance(encoded, dict) and isinstance(field, Text):
        return Digest(str(encoded[_DIGEST]))
    return None if encoded is None else field.deserialize(encoded)


def _signature(question: Question) -> list[str]:
    """Return what a cursor belongs to: the records and their sort order."""
    return [question.records, *(f"{'-' * order.descending}{order.field}" for order in question.whole_order)]


def _sum(content: bytes) -> bytes:
    """Return a checksum against damaged and foreign cursors. It needs no secret: a cursor grants no access."""
    return hashlib.blake2b(content, digest_size=_SUM_BYTES, person=b"cursor").digest()
