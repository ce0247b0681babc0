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
from app.store import counts, pages, records
from app.store.pages import Page
from app.store.questions import Question, Records
from app.web import cursors
from app.web.errors import Forbidden, Unauthorised
from app.web.filters import Asked, Counting, ListSchema, asked, permit
from app.web.parts import parts
from app.web.schemas import DeliverySchema, OutcomeSchema, RecordSchema

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")

_P = ParamSpec("_P")

OUTCOMES = ListSchema.about(OutcomeSchema)
DELIVERIES = ListSchema.about(DeliverySchema)
DELIVERIES_OF_ONE = ListSchema.about(DeliverySchema, without="outcome_id")


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
    return _list(asked(request.args, OUTCOMES), OutcomeSchema)


@blueprint.get("/outcomes/<outcome_id>")
@needs(Scope.READ)
def get_outcome(outcome_id: str) -> Response:
    row = records.get_record(parts().answers, Records.OUTCOMES, _id(outcome_id))
    return jsonify(_schema(OutcomeSchema).record(row))


@blueprint.get("/outcomes/<outcome_id>/deliveries")
@needs(Scope.READ)
def list_deliveries_of(outcome_id: str) -> Response:
    one = records.get_record(parts().answers, Records.OUTCOMES, _id(outcome_id))
    return _list(asked(request.args, DELIVERIES_OF_ONE).also("outcome_id", one["id"]), DeliverySchema)


@blueprint.get("/deliveries")
@needs(Scope.READ)
def list_deliveries() -> Response:
    return _list(asked(request.args, DELIVERIES), DeliverySchema)


@blueprint.get("/deliveries/<delivery_id>")
@needs(Scope.READ)
def get_delivery(delivery_id: str) -> Response:
    row = records.get_record(parts().answers, Records.DELIVERIES, _id(delivery_id))
    return jsonify(_schema(DeliverySchema).record(row))


@blueprint.get("/deliveries/<delivery_id>/body")
@needs(Scope.REVEAL)
def get_body(delivery_id: str) -> Response:
    """The exact bytes, under a type that no browser runs."""
    body = records.get_delivery(parts().answers, _id(delivery_id)).body
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f'attachment; filename="{delivery_id}.body"',
    }
    return Response(body, mimetype="application/octet-stream", headers=headers)


def _list(asked: Asked, kind: type[RecordSchema]) -> Response:
    permit(asked.question, reveal=g.reveal)
    page = pages.page(parts().answers, asked.question, asked.fields)
    schema = _schema(kind, asked.fields)
    links = _links(page, asked.question, kind())
    answer = jsonify({"data": [schema.record(row) for row in page.rows], **links, "count": _counted(asked)})
    answer.headers["Link"] = ", ".join(f'<{url}>; rel="{name}"' for name, url in links.items() if url)
    return answer


def _schema(kind: type[RecordSchema], fields: list[str] | None = None) -> RecordSchema:
    return kind(reveal=g.reveal, region=parts().settings.default_region, only=fields)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"{text} is no id; ids are UUIDs") from None


def _links(page: Page, question: Question, schema: RecordSchema) -> dict[str, str | None]:
    """The pages beside this one, null at the ends."""

    def link(there: bool, at: int, backwards: bool) -> str | None:
        if not (there and page.rows):
            return None
        return _url(cursors.write(schema, question, page.rows[at], backwards=backwards))

    return {"next": link(page.more_after, -1, False), "prev": link(page.more_before, 0, True)}


def _url(cursor: str) -> str:
    """This very question, at another page."""
    args = MultiDict(request.args)
    args["cursor"] = cursor
    return f"{request.base_url}?{urlencode(list(args.items(multi=True)))}"


def _counted(asked: Asked) -> dict[str, Any]:
    if asked.count is Counting.NONE:
        return {"value": None, "kind": Counting.NONE}
    return {"value": counts.count(parts().answers, asked.question), "kind": Counting.EXACT}
