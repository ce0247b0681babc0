"""The query API's aggregates: facets and summaries of outcomes, under the same filters as lists."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Response, g, jsonify
from marshmallow import Schema, fields

from app.model import Scope
from app.web.auditing import Logged
from app.web.fields import Number
from app.web.filters import FacetsSchema, ListQuery, SummaryQuery, SummarySchema, permit
from app.web.parts import parts
from app.web.schemas import OutcomeSchema
from app.web.views import Blueprint, needs

blueprint = Blueprint("aggregates", __name__, url_prefix="/api/v1", description="Counts and figures of outcomes")

_RECORD = OutcomeSchema()


class FacetSchema(Schema):
    """How often a value occurs."""

    value = fields.Raw(metadata={"type": ["string", "integer", "boolean", "null"]})
    count = Number(1)


class FacetsAnswer(Schema):
    """Facets by field, the most frequent values first."""

    data = fields.Dict(keys=fields.String(), values=fields.List(fields.Nested(FacetSchema)))


class FiguresSchema(Schema):
    """One group: its values, null for unknown values, and its figures, null if all are unknown."""

    hour = fields.AwareDateTime()
    day = fields.AwareDateTime()
    week = fields.AwareDateTime()
    month = fields.AwareDateTime()
    integration = fields.String()
    product = fields.String()
    batch = fields.String(allow_none=True)
    status = fields.String()
    disposition = fields.String()
    callee_type = fields.String(allow_none=True)
    answered_by = fields.String(allow_none=True)
    count = fields.Integer(required=True)
    answered = fields.Integer(required=True)
    human = fields.Integer(required=True)
    answer_rate = fields.Float(required=True, allow_none=True)
    human_rate = fields.Float(required=True, allow_none=True)
    attempts = fields.Integer(required=True, allow_none=True)
    duration_sum = fields.Integer(required=True, allow_none=True)
    duration_mean = fields.Float(required=True, allow_none=True)
    duration_p50 = fields.Integer(required=True, allow_none=True)
    duration_p95 = fields.Integer(required=True, allow_none=True)


class SummaryAnswer(Schema):
    data = fields.List(fields.Nested(FiguresSchema), required=True)


@blueprint.get("/facets")
@needs(Scope.READ, limited=False)
@blueprint.asks(FacetsSchema.about(OutcomeSchema))
@blueprint.answers(FacetsAnswer)
def show_facets(query: ListQuery) -> Response:
    """The values of fields and how often each occurs, at most 100 a field."""
    permit(query.question, reveal=g.reveal, listed_fields=query.fields or [])
    facets = parts().router.facets(query.question, query.fields or [])
    return jsonify({"data": {field: [_facet(field, *pair) for pair in pairs] for field, pairs in facets.items()}})


def _facet(field: str, value: Any, count: int) -> dict[str, Any]:
    return {"value": _RECORD.fields[field].serialize(field, {field: value}), "count": count}


@blueprint.get("/summary")
@needs(Scope.READ, Logged.NEVER, limited=False)
@blueprint.asks(SummarySchema.about(OutcomeSchema))
@blueprint.answers(SummaryAnswer)
def show_summary(query: SummaryQuery) -> Response:
    """Counts, rates, attempts and durations, by local time and by fields."""
    permit(query.question, reveal=g.reveal)
    rows = parts().router.summarise(query.question, query.group_by, query.zone)
    return jsonify({"data": [json_figures(row) for row in rows]})


def json_figures(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a summary as analysts see it: a bucket is its start, with its offset."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
