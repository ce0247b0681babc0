"""Cursors: opaque marks of the rows that pages end with. Only what is written here is read here."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, ValidationError

from app.store.asking.questions import Edge, Order, Question

_SUM_BYTES = 6


def write(schema: Schema, question: Question, row: Mapping[str, Any], *, backwards: bool) -> str:
    """The mark of this row at an edge of a page of the question."""
    shown = schema.dump(row)
    texts = [_text(shown[order.field]) for order in question.whole_order]
    content = json.dumps([backwards, _signature(question), texts], ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(_sum(content) + content).decode().rstrip("=")


def read(schema: Schema, question: Question, mark: str) -> Edge:
    """The edge that was marked. Raises `ValidationError` for what is no mark of this question's order."""
    try:
        whole = base64.b64decode((mark + "=" * (-len(mark) % 4)).encode("ascii"), b"-_", validate=True)
        checksum, content = whole[:_SUM_BYTES], whole[_SUM_BYTES:]
        backwards, signature, texts = json.loads(content)
        if checksum != _sum(content) or signature != _signature(question):
            raise ValueError
        return Edge(_values(schema, question.whole_order, texts), bool(backwards))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValidationError("not a cursor of this list in this order; take it from next or prev") from None


def _text(shown: Any) -> str | None:
    return str(shown).lower() if isinstance(shown, bool) else None if shown is None else str(shown)


def _values(schema: Schema, orders: Sequence[Order], texts: Sequence[str | None]) -> list[Any]:
    return [
        None if text is None else schema.fields[order.field].deserialize(text)
        for order, text in zip(orders, texts, strict=True)
    ]


def _signature(question: Question) -> list[str]:
    """What a mark belongs to: the records and their order."""
    return [question.records, *(f"{'-' * order.descending}{order.field}" for order in question.whole_order)]


def _sum(content: bytes) -> bytes:
    """Tells our marks from others and from damaged ones; a mark opens nothing, so it holds no secret."""
    return hashlib.blake2b(content, digest_size=_SUM_BYTES, person=b"cursor").digest()
