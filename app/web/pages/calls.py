"""The list of calls: narrowed down, sorted, counted, and taken away as a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

from flask import Response, g, request
from werkzeug.datastructures import MultiDict

from app.cooperative import cooperatively
from app.errors import StoreUnavailable
from app.masking import PHONE_FIELDS
from app.model import Scope
from app.store import saved_views
from app.store.query.question import Operator, Question, Weekday
from app.web.auditing import Logged, write
from app.web.downloads import made
from app.web.errors import Forbidden
from app.web.exports import CONTENT_TYPES, REDIAL, wanted
from app.web.filters import Asked, ListSchema, asked, permit, revealing
from app.web.lists import links_of, schema_of
from app.web.pages import formatting
from app.web.pages.site import Blueprint, here, may, parameters, shown, token
from app.web.parameters import comparable
from app.web.parts import parts
from app.web.schemas import OutcomeSchema

COLUMNS = [
    "ended_at",
    "phone_number",
    "disposition",
    "callee_type",
    "attempts",
    "duration_seconds",
    "integration",
    "batch",
]
FACETS = ["disposition", "answered_by", "callee_type", "status", "product", "integration", "batch"]
PAGE = 50
SHOWN_VALUES = 12  # of a facet, the most frequent
WORDS = frozenset({"disposition", "answered_by", "callee_type", "status", "product"})  # fields that have such values

_SAYS = {
    Operator.EQUAL: "is",
    Operator.NOT: "is not",
    Operator.GT: "above",
    Operator.GTE: "from",
    Operator.LT: "below",
    Operator.LTE: "up to",
    Operator.PREFIX: "begins with",
    Operator.CONTAINS: "contains",
}
_OF_TIME: dict[str, Callable[[str], str]] = {
    "since": lambda moment: f"from {moment}",
    "until": lambda moment: f"before {moment}",
    "weekday": lambda day: f"on a {Weekday(day).name.capitalize()}",
    "hour": lambda hour: f"from {int(hour):02}:00 to {int(hour):02}:59",
}
_PAGING = ("cursor", "limit", "count", "fields")

blueprint = Blueprint("calls", __name__)

_SCHEMA = ListSchema.about(OutcomeSchema)
_RECORD = OutcomeSchema()
_SORTABLE = frozenset(comparable(_RECORD))


class Chip(NamedTuple):
    """One filter in words, and the page without it."""

    text: str
    without: str


class Choice(NamedTuple):
    """A value of a facet, and the page that it narrows the list to, or widens it again."""

    text: str
    calls: int
    link: str
    is_chosen: bool


class Column(NamedTuple):
    name: str
    link: str | None  # to the list in its order, where there is one
    order: str  # as `aria-sort` says it


@blueprint.page("/calls")
def show() -> Response:
    """A page of the list that the parameters ask for."""
    given: Asked = asked(_listed(), _SCHEMA)
    permit(given.question, reveal=may(Scope.REVEAL))
    numbers = revealing(given.question)
    if numbers:  # those shown are masked, but were asked for
        write(token(), {}, 200)
    columns = given.fields or COLUMNS
    facets, total, told = _facets(given.question)
    found = parts().router.find(given.question)
    with parts().question_limit.slot():
        page = parts().router.rows(given.question, found, list(dict.fromkeys(["id", *columns])))
        records = [schema_of(OutcomeSchema, ["id", *columns]).record(row) for row in cooperatively(page.rows)]
    return shown(
        "calls.html",
        records=records,
        links=links_of(page, given.question, OutcomeSchema()),
        columns=[_column(name, given.question) for name in columns],
        all_columns=list(_RECORD.fields),
        chips=chips(),
        facets=facets,
        total=total,
        told=told,
        forms=list(CONTENT_TYPES),
        question=urlencode(list(parameters("cursor", "limit").items(multi=True))),
        # The API shows who is signed in no list that is asked for by a number.
        live=None if numbers else urlencode(list(parameters("sort", *_PAGING).items(multi=True))),
        may_redial=may(Scope.REVEAL),
        views=saved_views.list_views(parts().beside),
    )


@blueprint.form("/calls/export", Scope.READ, Logged.ALWAYS, tells=["format", "reveal"])
def export() -> Response:
    """The calls that the list shows, all of them, with these columns; numbers are whole where that is asked for."""
    form = request.form.get("format", "csv")
    records, form = (REDIAL, "csv") if form == REDIAL else ("outcomes", form if form in CONTENT_TYPES else "csv")
    if records == REDIAL and not may(Scope.REVEAL):
        raise Forbidden("a contact list has whole numbers; it needs a token with the scope reveal")
    g.reveal = may(Scope.REVEAL) and ("reveal" in request.form or records == REDIAL)
    left_out = ("cursor", "limit", "count", *(["fields"] if records == REDIAL else []))
    given = parameters(*left_out)
    if records != REDIAL and "whole" not in request.form and "fields" not in given:
        given.setlist("fields", COLUMNS)
    found = wanted(records, given, reveal=may(Scope.REVEAL))
    if revealing(found.question) and not g.reveal:
        raise Forbidden("this list is asked for by a number, so its export has whole ones: tick “with whole numbers”")
    return made(found, records, form, list(given.items(multi=True)))


def _listed() -> MultiDict[str, str]:
    """The API's own parameters, with a page that a screen holds."""
    given = parameters()
    given.setdefault("limit", str(PAGE))
    return given


def _facets(question: Question) -> tuple[dict[str, list[Choice]], int | None, str | None]:
    """Each facet's most frequent values, how many calls there are in all, and what stands against telling either."""
    whole = replace(question, edge=None)
    try:
        counted = parts().router.facets(whole, FACETS)
    except StoreUnavailable as error:
        return {}, None, str(error)
    chosen = {one.field: one.values for one in question.conditions if one.operator is Operator.EQUAL}
    facets = {
        field: [_choice(field, value, count, chosen.get(field, [])) for value, count in found[:SHOWN_VALUES]]
        for field, found in counted.items()
    }
    # A disposition is never null and has few words, so all of them are told.
    return facets, sum(count for _, count in counted["disposition"]), None


def _choice(field: str, value: Any, count: int, chosen: Any) -> Choice:
    is_chosen = value in chosen
    if value is None:
        is_chosen = request.args.get(f"{field}__null") == "true"
        return Choice("not known", count, here(**{f"{field}__null": None if is_chosen else "true"}), is_chosen)
    left = [str(one) for one in chosen if one != value] + ([] if is_chosen else [str(value)])
    return Choice(
        formatting.name(value) if field in WORDS else str(value), count, here(**{field: values(left)}), is_chosen
    )


def values(texts: list[str]) -> list[str] | None:
    """A filter's values so that each is taken whole: one that holds a comma is given twice."""
    return texts * 2 if len(texts) == 1 and "," in texts[0] else texts or None


def chips() -> list[Chip]:
    """Each parameter that narrows the list."""
    chips = []
    for name, texts in parameters().lists():
        field, _, operator = name.partition("__")
        if name in _OF_TIME:
            each = dict.fromkeys(_OF_TIME[name](part) for text in texts for part in text.split(","))
            told = " or ".join(each)
            chips.append(Chip(f"ended {told}", here(**{name: None})))
        elif field in _RECORD.fields:
            chips.append(Chip(_told(field, operator, list(dict.fromkeys(texts))), here(**{name: None})))
    return chips


def _told(field: str, operator: str, texts: list[str]) -> str:
    if operator == Operator.NULL:
        return f"{formatting.name(field)} is {'' if texts[0] == 'true' else 'not '}empty"
    return f"{formatting.name(field)} {_SAYS[Operator(operator)]} {' or '.join(texts)}"


def _column(name: str, question: Question) -> Column:
    first = question.order[0] if question.order else None
    is_first = first is not None and first.field == name
    order = ("descending" if first and first.descending else "ascending") if is_first else "none"
    if name not in _SORTABLE or (name in PHONE_FIELDS and not may(Scope.REVEAL)):
        return Column(name, None, order)
    return Column(name, here(sort=name if order == "descending" else f"-{name}"), order)
