"""The query API: a view is its signature; what may be asked stands in `filters`, what is shown in `schemas`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec
from urllib.parse import urlencode
from uuid import UUID

from flask import Blueprint, Response, g, jsonify, request
from werkzeug.datastructures import MultiDict

from app.errors import NotFound
from app.model import Scope
from app.store import questions
from app.store.questions import Page, Question
from app.web.errors import Forbidden, Invalid, Unauthorised
from app.web.filters import cursor, question
from app.web.parts import parts
from app.web.schemas import DeliverySchema, OutcomeSchema, RecordSchema

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")

_P = ParamSpec("_P")


def needs(scope: Scope) -> Callable[[Callable[_P, Response]], Callable[_P, Response]]:
    """Only for tokens of this scope or a wider one; `g.reveal` says whether phones may be shown."""

    def decorate(view: Callable[_P, Response]) -> Callable[_P, Response]:
        @wraps(view)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> Response:
            granted = _granted()
            if not granted.includes(scope):
                raise Forbidden(f"this needs a token with the scope {scope}; yours has {granted}")
            g.reveal = granted.includes(Scope.REVEAL)
            return view(*args, **kwargs)

        return guarded

    return decorate


def _granted() -> Scope:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    granted = parts().keyring.scopes.get(token.strip()) if kind.lower() == "bearer" and token.strip() else None
    if granted is None:
        raise Unauthorised("send a token: Authorization: Bearer TOKEN; see: plum-outcomes token add")
    return granted


@blueprint.get("/outcomes")
@needs(Scope.READ)
def list_outcomes() -> Response:
    asked = question(request.args, schema := _schema(OutcomeSchema), "ended_at")
    page = questions.list_outcomes(parts().answers, asked)
    return _listed(page, asked, schema, "ended_at", questions.count_outcomes)


@blueprint.get("/outcomes/<outcome_id>")
@needs(Scope.READ)
def get_outcome(outcome_id: str) -> Response:
    row = questions.get_outcome_record(parts().answers, _id(outcome_id))
    return jsonify(_schema(OutcomeSchema).record(row))


@blueprint.get("/outcomes/<outcome_id>/deliveries")
@needs(Scope.READ)
def list_deliveries_of(outcome_id: str) -> Response:
    questions.get_outcome_record(parts().answers, _id(outcome_id))
    if "outcome_id" in request.args:
        raise Invalid({"outcome_id": ["the URL says it already"]})
    return _deliveries(MultiDict([*request.args.items(multi=True), ("outcome_id", outcome_id)]))


@blueprint.get("/deliveries")
@needs(Scope.READ)
def list_deliveries() -> Response:
    return _deliveries(request.args)


@blueprint.get("/deliveries/<delivery_id>")
@needs(Scope.READ)
def get_delivery(delivery_id: str) -> Response:
    row = questions.get_delivery_record(parts().answers, _id(delivery_id))
    return jsonify(_schema(DeliverySchema).record(row))


@blueprint.get("/deliveries/<delivery_id>/body")
@needs(Scope.REVEAL)
def get_body(delivery_id: str) -> Response:
    """The exact bytes, under a type that no browser runs."""
    body = questions.get_delivery(parts().answers, _id(delivery_id)).body
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f'attachment; filename="{delivery_id}.body"',
    }
    return Response(body, mimetype="application/octet-stream", headers=headers)


def _deliveries(args: MultiDict[str, str]) -> Response:
    asked = question(args, schema := _schema(DeliverySchema), "received_at")
    page = questions.list_deliveries(parts().answers, asked)
    return _listed(page, asked, schema, "received_at", questions.count_deliveries)


def _schema(kind: type[RecordSchema]) -> RecordSchema:
    return kind(reveal=g.reveal, region=parts().settings.default_region)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"{text} is no id; ids are UUIDs") from None


def _listed(page: Page, asked: Question, schema: RecordSchema, moment: str, count: Callable[..., int]) -> Response:
    sort = f"-{moment}" if asked.newest_first else moment

    def link(direction: str, there: bool, row: dict[str, Any] | None) -> str | None:
        return _url(cursor(direction, sort, row[moment], row["id"])) if there and row else None

    first, last = (page.rows[0], page.rows[-1]) if page.rows else (None, None)
    links = {"next": link("after", page.more_after, last), "prev": link("before", page.more_before, first)}
    exact = request.args.get("count") == "exact"
    counted = {"value": count(parts().answers, asked) if exact else None, "kind": "exact" if exact else "none"}
    answer = jsonify({"data": [schema.record(row) for row in page.rows], **links, "count": counted})
    answer.headers["Link"] = ", ".join(f'<{url}>; rel="{name}"' for name, url in links.items() if url)
    return answer


def _url(mark: str) -> str:
    """This very question, at another page."""
    args = MultiDict(request.args)
    args["cursor"] = mark
    return f"{request.base_url}?{urlencode(list(args.items(multi=True)))}"
