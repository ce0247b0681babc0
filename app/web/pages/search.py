"""The one box: a call is looked for by its id, or by what identifies it, whole or in part.

What is typed in whole is found by the store's indexes; a part of it only by the analytical copy.
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
from app.web.pages.site import Blueprint, may, shown
from app.web.parts import parts

FIELDS = ("reference", "call_id", "message_reference")
MOST = 100  # counted of each field
_DIALLED = re.compile(r"[0-9\s()+./-]+")
_LEAST_DIGITS = 3  # of a number, to look for it

blueprint = Blueprint("search", __name__)


class Match(NamedTuple):
    """The calls found by one field, and the list that shows them all."""

    name: str
    ids: set[UUID]
    are_more: bool
    link: str


@blueprint.page("/search", when=Logged.REVEALED)
def show() -> Response:
    """The call, where there is one; the list of those of one field; else where each of some is found."""
    text = (storable(request.args.get("q")) or "").strip()
    if not text:
        return shown("search.html", text="")
    if found := _by_id(text):
        return found
    try:
        matches, told = _matches(_whole(text), Operator.EQUAL) or _matches(_in_part(text), Operator.CONTAINS), None
    except CopyUnavailable as error:
        matches, told = [], str(error)
    if len({key for match in matches for key in match.ids}) == 1 and not any(match.are_more for match in matches):
        return _to(f"/calls/{next(iter(matches[0].ids))}")
    if len(matches) == 1:
        return _to(matches[0].link)
    lacks = _is_dialled(text) and not may(Scope.REVEAL)
    return shown("search.html", text=text, matches=matches, told=told, asked_numbers=g.reveal, lacks_reveal=lacks)


def _by_id(text: str) -> Response | None:
    """The call with this id, or the one that a delivery with this id is about, else that delivery."""
    try:
        key = UUID(text)
    except ValueError:
        return None
    with parts().question_limit.slot():
        if _record(Records.OUTCOMES, key):
            return _to(f"/calls/{key}")
        delivery = _record(Records.DELIVERIES, key)
    if delivery is None:
        return None
    if delivery["outcome_id"] and delivery["verdict"] != Verdict.STARTED:
        return _to(f"/calls/{delivery['outcome_id']}")
    return _to(f"/deliveries/{key}")


def _record(kind: Records, key: UUID) -> dict[str, Any] | None:
    try:
        return records.get_record(parts().answers, kind, key)
    except NotFound:
        return None


def _whole(text: str) -> dict[str, str]:
    """What each field would be."""
    fields = dict.fromkeys(FIELDS, text)
    if not (may(Scope.REVEAL) and _is_dialled(text)):
        return fields
    try:
        number = phone(text, parts().settings.default_region)
    except BadValue:
        return fields
    return {**fields, "phone_number": number} if number else fields


def _in_part(text: str) -> dict[str, str]:
    """What each field would hold; a number has nothing between its digits."""
    fields = dict.fromkeys(FIELDS, text)
    if may(Scope.REVEAL) and _is_dialled(text):
        fields["phone_number"] = "".join(re.findall("[0-9]", text))
    return fields


def _is_dialled(text: str) -> bool:
    """Whether this may be a number, or a part of one."""
    return bool(_DIALLED.fullmatch(text)) and len(re.findall("[0-9]", text)) >= _LEAST_DIGITS


def _matches(looked_for: Mapping[str, str], operator: Operator) -> list[Match]:
    """The fields by which there are calls. A number that is looked for is as good as shown: the audit log has it."""
    g.reveal = g.reveal or "phone_number" in looked_for
    found = [_match(field, operator, value) for field, value in looked_for.items()]
    return [match for match in found if match.ids]


def _match(field: str, operator: Operator, value: str) -> Match:
    condition = Condition(field, operator, [value])
    question = Question(
        records=Records.OUTCOMES, conditions=[condition], order=[Order("ended_at", descending=True)], limit=MOST
    )
    found = parts().router.find(question)
    with parts().question_limit.slot():
        page = parts().router.rows(question, found, ["id"])
    name = f"{field}__{operator}".removesuffix("__")
    link = f"/calls?{urlencode({name: values([value]) if operator is Operator.EQUAL else value}, doseq=True)}"
    return Match(formatting.name(field), {row["id"] for row in page.rows}, page.more_after, link)


def _to(path: str) -> Response:
    return cast(Response, redirect(path, 303))
