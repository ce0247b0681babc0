"""The query API's endpoints for records. `filters` parses the questions, `schemas` serialises the records."""

from __future__ import annotations

from flask import Response, jsonify

from app.model import Scope
from app.store import records
from app.store.query.question import Records
from app.web.auditing import Logged
from app.web.filters import ListQuery, ListSchema
from app.web.lists import deliveries_about, id_of, list_response, schema_of
from app.web.parts import parts
from app.web.schemas import AuditSchema, DeliverySchema, OutcomeSchema, page_of
from app.web.views import Blueprint, fails, needs

blueprint = Blueprint("records", __name__, url_prefix="/api/v1", description="Calls, and what was received of them")


@blueprint.get("/outcomes")
@needs(Scope.READ, limited=False)
@blueprint.asks(ListSchema.about(OutcomeSchema))
@blueprint.answers(page_of(OutcomeSchema))
def list_outcomes(query: ListQuery) -> Response:
    """List outcomes."""
    return list_response(query, OutcomeSchema)


@blueprint.get("/outcomes/<outcome_id>")
@needs(Scope.READ)
@fails(404)
@blueprint.asks_nothing
@blueprint.answers(OutcomeSchema)
def get_outcome(outcome_id: str) -> Response:
    """One call's result."""
    row = records.get_record(parts().answers, Records.OUTCOMES, id_of(outcome_id))
    return jsonify(schema_of(OutcomeSchema).record(row))


@blueprint.get("/outcomes/<outcome_id>/deliveries")
@needs(Scope.READ, limited=False)
@blueprint.asks(ListSchema.about(DeliverySchema, without="outcome_id"))
@fails(404)
@blueprint.answers(page_of(DeliverySchema))
def list_deliveries_of(query: ListQuery, outcome_id: str) -> Response:
    """List everything received about one call, its start too."""
    outcome = records.get_record(parts().answers, Records.OUTCOMES, id_of(outcome_id))
    return list_response(query.also("outcome_id", deliveries_about(outcome)), DeliverySchema)


@blueprint.get("/deliveries")
@needs(Scope.READ, limited=False)
@blueprint.asks(ListSchema.about(DeliverySchema))
@blueprint.answers(page_of(DeliverySchema))
def list_deliveries(query: ListQuery) -> Response:
    """List deliveries: callbacks as they came."""
    return list_response(query, DeliverySchema)


@blueprint.get("/deliveries/<delivery_id>")
@needs(Scope.READ)
@fails(404)
@blueprint.asks_nothing
@blueprint.answers(DeliverySchema)
def get_delivery(delivery_id: str) -> Response:
    """One callback, without its body."""
    row = records.get_record(parts().answers, Records.DELIVERIES, id_of(delivery_id))
    return jsonify(schema_of(DeliverySchema).record(row))


@blueprint.get("/deliveries/<delivery_id>/body")
@needs(Scope.REVEAL)
@fails(404)
@blueprint.asks_nothing
@blueprint.answers({"type": "string", "format": "binary"}, content_type="application/octet-stream")
def get_body(delivery_id: str) -> Response:
    """The exact bytes of one callback."""
    body = records.get_delivery(parts().answers, id_of(delivery_id)).body
    headers = {"Content-Disposition": f'attachment; filename="{delivery_id}.body"'}  # no browser runs the type below
    return Response(body, mimetype="application/octet-stream", headers=headers)


@blueprint.post("/deliveries/<delivery_id>/reprocess")
@needs(Scope.ADMIN, Logged.CHANGE)
@fails(404)
@blueprint.asks_nothing
@blueprint.answers(DeliverySchema)
def reprocess(delivery_id: str) -> Response:
    """Read one callback again, with the current normaliser."""
    key = id_of(delivery_id)
    parts().reprocess(key)
    return jsonify(schema_of(DeliverySchema).record(records.get_record(parts().database, Records.DELIVERIES, key)))


@blueprint.get("/audit")
@needs(Scope.ADMIN, Logged.NEVER, limited=False)
@blueprint.asks(ListSchema.about(AuditSchema))
@blueprint.answers(page_of(AuditSchema))
def list_audit(query: ListQuery) -> Response:
    """List who saw phone numbers or bodies, exported, or changed something."""
    return list_response(query, AuditSchema)
