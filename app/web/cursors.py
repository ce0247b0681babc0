"""Cursors: opaque marks of the rows that pages end with. Only what is written here is read here."""

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
    """The mark of the row at an edge of a page of the question, by its values of the order's fields."""
    told = [_told(schema, order.field, value) for order, value in zip(question.whole_order, values, strict=True)]
    content = json.dumps([backwards, _signature(question), told], ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(_sum(content) + content).decode().rstrip("=")


def read(schema: Schema, question: Question, mark: str) -> Edge:
    """The edge that was marked. Raises `ValidationError` for what is no mark of this question's order."""
    try:
        whole = base64.b64decode((mark + "=" * (-len(mark) % 4)).encode("ascii"), b"-_", validate=True)
        checksum, content = whole[:_SUM_BYTES], whole[_SUM_BYTES:]
        backwards, signature, told = json.loads(content)
        if checksum != _sum(content) or signature != _signature(question) or not isinstance(backwards, bool):
            raise ValueError
        return Edge(_values(schema, question, told), backwards)
    except (ValidationError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValidationError("not a cursor of this list in this order; take it from next or prev") from None


def _told(schema: Schema, field: str, value: Any) -> Any:
    if isinstance(value, Digest):
        return {_DIGEST: value.hex}
    text = _text(schema.fields[field].serialize(field, {field: value}))
    return {_DIGEST: Digest.of(text).hex} if text and len(text) > LONG else text


def _text(shown: Any) -> str | None:
    return str(shown).lower() if isinstance(shown, bool) else None if shown is None else str(shown)


def _values(schema: Schema, question: Question, told: Sequence[Any]) -> list[Any]:
    """Anyone may write what looks like a mark of ours."""
    columns = [question.records.table.c[order.field] for order in question.whole_order]
    return [
        _value(schema.fields[column.name], bool(column.nullable), one)
        for column, one in zip(columns, told, strict=True)
    ]


def _value(field: Field[Any], may_be_null: bool, told: Any) -> Any:
    if told is None and not may_be_null:
        raise ValueError
    if isinstance(told, dict) and isinstance(field, Text):
        return Digest(str(told[_DIGEST]))
    return None if told is None else field.deserialize(told)


def _signature(question: Question) -> list[str]:
    """What a mark belongs to: the records and their order."""
    return [question.records, *(f"{'-' * order.descending}{order.field}" for order in question.whole_order)]


def _sum(content: bytes) -> bytes:
    """Tells our marks from others and from damaged ones; a mark opens nothing, so it holds no secret."""
    return hashlib.blake2b(content, digest_size=_SUM_BYTES, person=b"cursor").digest()
