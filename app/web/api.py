"""The records of the query API: a view is its signature; `filters` has what is asked, `schemas` what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from flask import Response, g, jsonify, request
from werkzeug.datastructures import MultiDict

from app.errors import NotFound
from app.identity import start_id
from app.model import Scope
from app.store import records
from app.store.pages import Page
from app.store.query.question import Question, Records
from app.turns import in_turns
from app.web import cursors
from app.web.auditing import Logged
from app.web.filters import Asked, ListSchema, permit
from app.web.origin import base_url
from app.web.parts import parts
from app.web.schemas import AuditSchema, DeliverySchema, OutcomeSchema, RecordSchema, page_of
from app.web.views import Blueprint, fails, needs

blueprint = Blueprint("records", __name__, url_prefix="/api/v1", description="Calls, and what was received of them")


@blueprint.get("/outcomes")
@needs(Scope.READ, gated=False)
@blueprint.asks(ListSchema.about(OutcomeSchema))
@blueprint.answers(page_of(OutcomeSchema))
def list_outcomes(asked: Asked) -> Response:
    """List outcomes."""
    return _list(asked, OutcomeSchema)


@blueprint.get("/outcomes/<outcome_id>")
@needs(Scope.READ)
@fails(404)
@blueprint.asks_nothing
@blueprint.answers(OutcomeSchema)
def get_outcome(outcome_id: str) -> Response:
    """What became of one call."""
    row = records.get_record(parts().answers, Records.OUTCOMES, _id(outcome_id))
    return jsonify(_schema(OutcomeSchema).record(row))


@blueprint.get("/outcomes/<outcome_id>/deliveries")
@needs(Scope.READ, gated=False)
@blueprint.asks(ListSchema.about(DeliverySchema, without="outcome_id"))
@fails(404)
@blueprint.answers(page_of(DeliverySchema))
def list_deliveries_of(asked: Asked, outcome_id: str) -> Response:
    """List everything received about one call, its start too."""
    outcome = records.get_record(parts().answers, Records.OUTCOMES, _id(outcome_id))
    phone = outcome["phone_number"] or outcome["phone_number_raw"]
    start = start_id(outcome["integration"], outcome["call_id"], outcome["message_reference"], phone)
    return _list(asked.also("outcome_id", [outcome["id"], *([start] if start else [])]), DeliverySchema)


@blueprint.get("/deliveries")
@needs(Scope.READ, gated=False)
@blueprint.asks(ListSchema.about(DeliverySchema))
@blueprint.answers(page_of(DeliverySchema))
def list_deliveries(asked: Asked) -> Response:
    """List deliveries: callbacks as they came."""
    return _list(asked, DeliverySchema)


@blueprint.get("/deliveries/<delivery_id>")
@needs(Scope.READ)
@fails(404)
@blueprint.asks_nothing
@blueprint.answers(DeliverySchema)
def get_delivery(delivery_id: str) -> Response:
    """One callback, but for its body."""
    row = records.get_record(parts().answers, Records.DELIVERIES, _id(delivery_id))
    return jsonify(_schema(DeliverySchema).record(row))


@blueprint.get("/deliveries/<delivery_id>/body")
@needs(Scope.REVEAL)
@fails(404)
@blueprint.asks_nothing
@blueprint.answers({"type": "string", "format": "binary"}, content_type="application/octet-stream")
def get_body(delivery_id: str) -> Response:
    """The exact bytes of one callback."""
    body = records.get_delivery(parts().answers, _id(delivery_id)).body
    headers = {"Content-Disposition": f'attachment; filename="{delivery_id}.body"'}  # and a type that no browser runs
    return Response(body, mimetype="application/octet-stream", headers=headers)


@blueprint.post("/deliveries/<delivery_id>/reprocess")
@needs(Scope.ADMIN, Logged.CHANGE)
@fails(404)
@blueprint.asks_nothing
@blueprint.answers(DeliverySchema)
def reprocess(delivery_id: str) -> Response:
    """Read one callback again, with today's normaliser."""
    key = _id(delivery_id)
    parts().reprocess(key)
    return jsonify(_schema(DeliverySchema).record(records.get_record(parts().database, Records.DELIVERIES, key)))


@blueprint.get("/audit")
@needs(Scope.ADMIN, Logged.NEVER, gated=False)
@blueprint.asks(ListSchema.about(AuditSchema))
@blueprint.answers(page_of(AuditSchema))
def list_audit(asked: Asked) -> Response:
    """List who saw phone numbers or bodies, exported, or changed something."""
    return _list(asked, AuditSchema)


def _list(asked: Asked, kind: type[RecordSchema]) -> Response:
    """Who waits for the copy takes no place of those that the store answers."""
    permit(asked.question, reveal=g.reveal)
    answering, schema = parts().answering, _schema(kind, asked.fields)
    found = answering.find(asked.question)
    with parts().gate.passed():
        page = answering.rows(asked.question, found, asked.fields)
        records = [schema.record(row) for row in in_turns(page.rows)]
    with nullcontext() if kind is OutcomeSchema else parts().gate.passed():
        counted = answering.count(page, asked.question, asked.count)._asdict()
    links = _links(page, asked.question, kind())
    answer = jsonify({"data": records, **links, "count": counted})
    answer.headers["Link"] = ", ".join(f'<{url}>; rel="{name}"' for name, url in links.items() if url)
    return answer


def _schema(kind: type[RecordSchema], fields: list[str] | None = None) -> RecordSchema:
    return kind(reveal=g.reveal, only=fields)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"{text} is no id; ids are UUIDs") from None


def _links(page: Page, question: Question, schema: RecordSchema) -> dict[str, str | None]:
    """The pages beside this one, null at the ends."""

    def link(there: bool, edge: Sequence[Any], backwards: bool) -> str | None:
        if not (there and edge):
            return None
        return _url(cursors.write(schema, question, edge, backwards=backwards))

    return {"next": link(page.more_after, page.last, False), "prev": link(page.more_before, page.first, True)}


def _url(cursor: str) -> str:
    """This very question, at another page."""
    args = MultiDict(request.args)
    args["cursor"] = cursor
    return f"{_here()}?{urlencode(list(args.items(multi=True)))}"


def _here() -> str:
    settings = parts().settings
    return base_url(request.environ, settings.trusted_proxies, settings.public_url) + quote(request.path)
