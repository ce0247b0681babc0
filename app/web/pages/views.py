"""Saved views: named lists of calls, shared by all users who may read."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

from flask import Response, redirect, request
from werkzeug.datastructures import MultiDict

from app.model import Scope
from app.store import saved_views
from app.values import storable
from app.web.errors import Invalid
from app.web.filters import ListQuery, ListSchema, parse, revealing
from app.web.pages.site import Blueprint, may, redirect_to, token
from app.web.parts import now, parts
from app.web.schemas import OutcomeSchema

MAX_NAME = 80
MAX_ASKED = 1000  # characters of a query string

blueprint = Blueprint("views", __name__)

_SCHEMA = ListSchema.about(OutcomeSchema)


@blueprint.form("/views", Scope.READ, logged_fields=["name"])
def save() -> Response:
    """Save the list's parameters under a name."""
    name = (storable(request.form.get("name", "")) or "").strip()
    pairs = [pair for pair in parse_qsl(request.form.get("asked", ""), True) if pair[0] != "cursor"]
    saved_views.add_view(parts().beside, _checked_name(name), _checked_query(pairs), token().name, now())
    return redirect(f"/calls?{urlencode(pairs)}", 303)  # type: ignore[return-value]


@blueprint.form("/views/remove", Scope.READ, logged_fields=["name"])
def remove() -> Response:
    saved_views.remove_view(parts().beside, request.form.get("name", ""), None if may(Scope.ADMIN) else token().name)
    return redirect_to("calls.show")


def _checked_name(name: str) -> str:
    if not 1 <= len(name) <= MAX_NAME:
        raise Invalid({"name": [f"has {len(name)} characters and may have 1 to {MAX_NAME}"]})
    return name


def _checked_query(pairs: list[tuple[str, str]]) -> str:
    """Return the query string. Raises `Invalid` if it is no list, or would reveal numbers to other users."""
    text = urlencode(pairs)
    parsed: ListQuery = parse(MultiDict(pairs), _SCHEMA)
    if names := revealing(parsed.question):
        raise Invalid({name: ["may give numbers away to all who see the view; leave it out"] for name in names})
    if len(text) > MAX_ASKED:
        raise Invalid({"asked": [f"has {len(text)} characters and may have {MAX_ASKED}"]})
    return text
