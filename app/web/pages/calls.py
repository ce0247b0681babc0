"""The list of calls, with filters, sort order, facets and export."""

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
from app.web.downloads import file_response
from app.web.errors import Forbidden
from app.web.exports import CONTENT_TYPES, REDIAL, parse_export
from app.web.filters import ListQuery, ListSchema, parse, permit, revealing
from app.web.lists import links_of, schema_of
from app.web.pages import formatting
from app.web.pages.site import Blueprint, here, may, parameters, render_page, token
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
SHOWN_VALUES = 12  # the most frequent values of a facet that are shown
# Fields whose values are shown as words.
WORDS = frozenset({"disposition", "answered_by", "callee_type", "status", "product"})

_OPERATOR_TEXTS = {
    Operator.EQUAL: "is",
    Operator.NOT: "is not",
    Operator.GT: "above",
    Operator.GTE: "from",
    Operator.LT: "below",
    Operator.LTE: "up to",
    Operator.PREFIX: "begins with",
    Operator.CONTAINS: "contains",
}
_TIME_TEXTS: dict[str, Callable[[str], str]] = {
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
    """One filter in words, and the URL of the list without it."""

    text: str
    without: str


class Choice(NamedTuple):
    """A value of a facet, and the URL of the list with this filter, or without it if it is chosen."""

    text: str
    calls: int
    link: str
    is_chosen: bool


class Column(NamedTuple):
    name: str
    link: str | None  # to the list sorted by it; None if that is not possible
    order: str  # the value of `aria-sort`


@blueprint.page("/calls")
def show() -> Response:
    """Show the page of the list that the parameters choose."""
    request_list: ListQuery = parse(_list_parameters(), _SCHEMA)
    permit(request_list.question, reveal=may(Scope.REVEAL))
    number_fields = revealing(request_list.question)
    if number_fields:  # the page masks numbers, but the filter reveals them
        write(token(), {}, 200)
    columns = request_list.fields or COLUMNS
    facets, total, failure = _facets(request_list.question)
    matches = parts().router.find(request_list.question)
    with parts().question_limit.slot():
        page = parts().router.rows(request_list.question, matches, list(dict.fromkeys(["id", *columns])))
        records = [schema_of(OutcomeSchema, ["id", *columns]).record(row) for row in cooperatively(page.rows)]
    return render_page(
        "calls.html",
        records=records,
        links=links_of(page, request_list.question, OutcomeSchema()),
        columns=[_column(name, request_list.question) for name in columns],
        all_columns=list(_RECORD.fields),
        chips=chips(),
        facets=facets,
        total=total,
        failure=failure,
        forms=list(CONTENT_TYPES),
        question=urlencode(list(parameters("cursor", "limit").items(multi=True))),
        # With the cookie, the API refuses filters by number.
        live=None if number_fields else urlencode(list(parameters("sort", *_PAGING).items(multi=True))),
        may_redial=may(Scope.REVEAL),
        views=saved_views.list_views(parts().beside),
    )


@blueprint.form("/calls/export", Scope.READ, Logged.ALWAYS, logged_fields=["format", "reveal"])
def export() -> Response:
    """Export all calls of the list with its columns, and with whole numbers if the form says so."""
    form = request.form.get("format", "csv")
    records, form = (REDIAL, "csv") if form == REDIAL else ("outcomes", form if form in CONTENT_TYPES else "csv")
    if records == REDIAL and not may(Scope.REVEAL):
        raise Forbidden("a contact list has whole numbers; it needs a token with the scope reveal")
    g.reveal = may(Scope.REVEAL) and ("reveal" in request.form or records == REDIAL)
    left_out = ("cursor", "limit", "count", *(["fields"] if records == REDIAL else []))
    args = parameters(*left_out)
    if records != REDIAL and "whole" not in request.form and "fields" not in args:
        args.setlist("fields", COLUMNS)
    request_export = parse_export(records, args, reveal=may(Scope.REVEAL))
    if revealing(request_export.question) and not g.reveal:
        raise Forbidden(
            "this list is filtered by a number, so its export has whole numbers: tick “with whole numbers”"
        )
    return file_response(request_export, records, form, list(args.items(multi=True)))


def _list_parameters() -> MultiDict[str, str]:
    """Return the URL's parameters, which are the API's, with a page size that fits a screen."""
    args = parameters()
    args.setdefault("limit", str(PAGE))
    return args


def _facets(question: Question) -> tuple[dict[str, list[Choice]], int | None, str | None]:
    """Return each facet's most frequent values, the number of calls, and the error if the copy cannot count."""
    all_pages = replace(question, edge=None)
    try:
        counted = parts().router.facets(all_pages, FACETS)
    except StoreUnavailable as error:
        return {}, None, str(error)
    chosen = {each.field: each.values for each in question.conditions if each.operator is Operator.EQUAL}
    facets = {
        field: [_choice(field, value, count, chosen.get(field, [])) for value, count in pairs[:SHOWN_VALUES]]
        for field, pairs in counted.items()
    }
    # A disposition is never null and has few values, so its facet is complete and its counts give the total.
    return facets, sum(count for _, count in counted["disposition"]), None


def _choice(field: str, value: Any, count: int, chosen: Any) -> Choice:
    is_chosen = value in chosen
    if value is None:
        is_chosen = request.args.get(f"{field}__null") == "true"
        return Choice("not known", count, here(**{f"{field}__null": None if is_chosen else "true"}), is_chosen)
    remaining = [str(each) for each in chosen if each != value] + ([] if is_chosen else [str(value)])
    return Choice(
        formatting.name(value) if field in WORDS else str(value), count, here(**{field: values(remaining)}), is_chosen
    )


def values(texts: list[str]) -> list[str] | None:
    """Return a filter's values for a URL. A single value with a comma is repeated, so that it is not split."""
    return texts * 2 if len(texts) == 1 and "," in texts[0] else texts or None


def chips() -> list[Chip]:
    """Return a chip for each filter in the URL."""
    chips = []
    for name, texts in parameters().lists():
        field, _, operator = name.partition("__")
        if name in _TIME_TEXTS:
            times = dict.fromkeys(_TIME_TEXTS[name](part) for text in texts for part in text.split(","))
            chips.append(Chip(f"ended {' or '.join(times)}", here(**{name: None})))
        elif field in _RECORD.fields:
            chips.append(Chip(_condition_text(field, operator, list(dict.fromkeys(texts))), here(**{name: None})))
    return chips


def _condition_text(field: str, operator: str, texts: list[str]) -> str:
    if operator == Operator.NULL:
        return f"{formatting.name(field)} is {'' if texts[0] == 'true' else 'not '}empty"
    return f"{formatting.name(field)} {_OPERATOR_TEXTS[Operator(operator)]} {' or '.join(texts)}"


def _column(name: str, question: Question) -> Column:
    first = question.order[0] if question.order else None
    is_first = first is not None and first.field == name
    order = ("descending" if first and first.descending else "ascending") if is_first else "none"
    if name not in _SORTABLE or (name in PHONE_FIELDS and not may(Scope.REVEAL)):
        return Column(name, None, order)
    return Column(name, here(sort=name if order == "descending" else f"-{name}"), order)
