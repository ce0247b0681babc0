"""The fields of DEV's request to start_url, which Plum sends when a call connects.

Plum's pages contradict each other: the fields come in a form or in the query string. Both are read.
"""

from __future__ import annotations

from app.errors import Unreadable
from app.model import Json
from app.products import payload
from app.products.duplicate_keys import MAX_VALUES, limit_values
from app.products.fields import sort_fields

FIELDS = ("phone_number", "call_id", "message_reference", "campaign_parameters", "call_parameters")

_FORM = "application/x-www-form-urlencoded"


def read(body: bytes, content_type: str | None, query: str) -> dict[str, Json]:
    """Return the fields that are not empty. The body's fields win over those of the query string."""
    query_fields = _fields(query.encode("latin-1", "replace"), _FORM)  # WSGI decodes URLs as Latin-1
    return query_fields | _fields(body, content_type)


def _fields(content: bytes, content_type: str | None) -> dict[str, Json]:
    """Return the known fields, none if the content does not parse: a start needs no fields."""
    try:
        pairs = payload.read(content, content_type, FIELDS)
    except Unreadable:
        return {}
    if len(content) > MAX_VALUES:
        pairs = limit_values(pairs, FIELDS, ())
    known = sort_fields(pairs, FIELDS).renamed([{name: name for name in FIELDS}])
    return {name: sent.value for name, sent in known.items() if sent.value not in (None, "")}
