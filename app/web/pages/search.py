"""The search box: finds calls by id, or by an identifying field, whole or in part.

The store's indexes find whole values; only the analytical copy finds parts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode
from uuid import UUID

from flask import Response, g, redirect, request

from app.errors import CopyUnavailable, NotFound
from app.model import Scope, Verdict
from app.store import records
from app.store.query.question import Condition, Operator, Order, Question, Records
from app.values import BadValue, phone, storable
from app.web.auditing import Logged
from app.web.pages import formatting
from app.web.pages.calls import values
from app.web.pages.site import Blueprint, may, render_page
from app.web.parts import parts

FIELDS = ("reference", "call_id", "message_reference")
MOST = 100  # matches counted for each field
_NUMBER = re.compile(r"[0-9\s()+./-]+")
_MIN_DIGITS = 3  # of a number, needed to search for it

blueprint = Blueprint("search", __name__)


class Match(NamedTuple):
    """The calls that match by one field, and the URL of the list of all of them."""

    name: str
    ids: set[UUID]
    are_more: bool
    link: str


@blueprint.page("/search", when=Logged.REVEALED)
def show() -> Response:
    """Redirect to the call if there is one, or to the list if one field matches; else show the matches by field."""
    text = (storable(request.args.get("q")) or "").strip()
    if not text:
        return render_page("search.html", text="")
    if response := _by_id(text):
        return response
    failure = None
    try:
        matches = _matches(_whole_values(text), Operator.EQUAL) or _matches(_partial_values(text), Operator.CONTAINS)
    except CopyUnavailable as error:
        matches, failure = [], str(error)
    if len({key for match in matches for key in match.ids}) == 1 and not any(match.are_more for match in matches):
        return _redirect(f"/calls/{next(iter(matches[0].ids))}")
    if len(matches) == 1:
        return _redirect(matches[0].link)
    lacks = _is_number(text) and not may(Scope.REVEAL)
    return render_page(
        "search.html", text=text, matches=matches, failure=failure, asked_numbers=g.reveal, lacks_reveal=lacks
    )


def _by_id(text: str) -> Response | None:
    """Redirect to the call with this id, or to the call of the delivery with this id, else to that delivery."""
    try:
        key = UUID(text)
    except ValueError:
        return None
    with parts().question_limit.slot():
        if _record(Records.OUTCOMES, key):
            return _redirect(f"/calls/{key}")
        delivery = _record(Records.DELIVERIES, key)
    if delivery is None:
        return None
    if delivery["outcome_id"] and delivery["verdict"] != Verdict.STARTED:
        return _redirect(f"/calls/{delivery['outcome_id']}")
    return _redirect(f"/deliveries/{key}")


def _record(kind: Records, key: UUID) -> dict[str, Any] | None:
    try:
        return records.get_record(parts().answers, kind, key)
    except NotFound:
        return None


def _whole_values(text: str) -> dict[str, str]:
    """Return the value to search for in each field."""
    fields = dict.fromkeys(FIELDS, text)
    if not (may(Scope.REVEAL) and _is_number(text)):
        return fields
    try:
        number = phone(text, parts().settings.default_region)
    except BadValue:
        return fields
    return {**fields, "phone_number": number} if number else fields


def _partial_values(text: str) -> dict[str, str]:
    """Return the part to search for in each field; of a number, only its digits."""
    fields = dict.fromkeys(FIELDS, text)
    if may(Scope.REVEAL) and _is_number(text):
        fields["phone_number"] = "".join(re.findall("[0-9]", text))
    return fields


def _is_number(text: str) -> bool:
    """True if the text may be a phone number, or a part of one."""
    return bool(_NUMBER.fullmatch(text)) and len(re.findall("[0-9]", text)) >= _MIN_DIGITS


def _matches(values_by_field: Mapping[str, str], operator: Operator) -> list[Match]:
    """Return the matches by field. A search by number reveals the number, so it is written to the audit log."""
    g.reveal = g.reveal or "phone_number" in values_by_field
    matches = [_match(field, operator, value) for field, value in values_by_field.items()]
    return [match for match in matches if match.ids]


def _match(field: str, operator: Operator, value: str) -> Match:
    condition = Condition(field, operator, [value])
    question = Question(
        records=Records.OUTCOMES, conditions=[condition], order=[Order("ended_at", descending=True)], limit=MOST
    )
    matches = parts().router.find(question)
    with parts().question_limit.slot():
        page = parts().router.rows(question, matches, ["id"])
    name = f"{field}__{operator}".removesuffix("__")
    link = f"/calls?{urlencode({name: values([value]) if operator is Operator.EQUAL else value}, doseq=True)}"
    return Match(formatting.name(field), {row["id"] for row in page.rows}, page.more_after, link)


def _redirect(path: str) -> Response:
    return cast(Response, redirect(path, 303))
