"""The query API's endpoints for queued calls: register them, list them, and count missing results."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, g, jsonify, request

from app.model import Scope
from app.store import expected
from app.store.integrations import integrations_by_name
from app.web.auditing import Logged
from app.web.errors import Invalid
from app.web.filters import ListQuery, ListSchema, MissingSchema, permit
from app.web.lists import list_response, schema_of
from app.web.parts import parts
from app.web.registration import RegistrationSchema, calls_from
from app.web.schemas import CallCountsSchema, ExpectedCallSchema, data_of, page_of
from app.web.views import Blueprint, fails, needs

MAX_BODY_BYTES = 8 << 20
MAX_CALLS = 10_000

blueprint = Blueprint(
    "expected_calls", __name__, url_prefix="/api/v1", description="Calls that were queued, and what is missing"
)


@blueprint.get("/expected-calls")
@needs(Scope.READ, limited=False)
@blueprint.asks(ListSchema.about(ExpectedCallSchema))
@blueprint.answers(page_of(ExpectedCallSchema))
def list_expected_calls(query: ListQuery) -> Response:
    """List calls that were queued, and what is known of their results."""
    return list_response(query, ExpectedCallSchema)


@blueprint.post("/expected-calls")
@needs(Scope.ADMIN, Logged.CHANGE)
@fails(409, 413)
@blueprint.asks_nothing
@blueprint.takes(RegistrationSchema)
@blueprint.answers(data_of(ExpectedCallSchema))
def register_expected_calls() -> Response:
    """Register calls that were queued elsewhere: one, or a list of up to 10,000. Repeating it changes nothing."""
    database, settings = parts().beside, parts().settings
    body = _json_body()
    if isinstance(body, list) and not 1 <= len(body) <= MAX_CALLS:
        raise Invalid({"body": [f"has {len(body)} calls and may have 1 to {MAX_CALLS}"]})
    calls = calls_from(body, integrations_by_name(database), settings.default_region)
    schema = schema_of(ExpectedCallSchema)
    return jsonify({"data": [schema.record(row) for row in expected.register(database, calls)]})


@blueprint.get("/missing")
@needs(Scope.READ, limited=False)
@blueprint.asks(MissingSchema.about(ExpectedCallSchema))
@blueprint.answers(data_of(CallCountsSchema))
def show_missing(query: ListQuery) -> Response:
    """How many results were expected, have come and are missing, by integration and batch."""
    permit(query.question, reveal=g.reveal)
    return jsonify({"data": [counts._asdict() for counts in parts().missing(query.question)]})


def _json_body() -> Any:
    request.max_content_length = MAX_BODY_BYTES
    body = request.get_data()
    if len(body) < (request.content_length or 0):
        raise Invalid({"body": ["ended before its declared length; send it again"]})
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Invalid({"body": ["is no JSON; send an object, or a list of objects"]}) from None
