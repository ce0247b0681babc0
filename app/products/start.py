"""DEV's start_url: what Plum says when a call connects.

Its pages contradict themselves on whether these come in a form or in the query, so both are read.
"""

from __future__ import annotations

from app.errors import Unreadable
from app.model import Json
from app.products import payload
from app.products.duplicate_keys import MAX_VALUES, bounded
from app.products.fields import sort_fields

FIELDS = ("phone_number", "call_id", "message_reference", "campaign_parameters", "call_parameters")

_FORM = "application/x-www-form-urlencoded"


def read(body: bytes, content_type: str | None, query: str) -> dict[str, Json]:
    """The fields that hold something: the body's, else the query's."""
    in_query = _fields(query.encode("latin-1", "replace"), _FORM)  # as WSGI decodes what stands in a URL
    return in_query | _fields(body, content_type)


def _fields(content: bytes, content_type: str | None) -> dict[str, Json]:
    """None of what cannot be read: a start needs no fields."""
    try:
        pairs = payload.read(content, content_type, FIELDS)
    except Unreadable:
        return {}
    if len(content) > MAX_VALUES:
        pairs = bounded(pairs, FIELDS, ())
    known = sort_fields(pairs, FIELDS).renamed([{name: name for name in FIELDS}])
    return {name: sent.value for name, sent in known.items() if sent.value not in (None, "")}
