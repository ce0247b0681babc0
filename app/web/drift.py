"""Drift: what came that nobody knew, so that a change at Plum's end is seen the day it comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flask import Response, g, jsonify
from marshmallow import RAISE, Schema, ValidationError, fields, post_load

from app.masking import mask_digits
from app.model import DriftKind, Product, Scope
from app.web.fields import Key, Moment, Number, Text, Word, Zone
from app.web.parameters import Once, Several
from app.web.parts import parts
from app.web.views import Blueprint, needs

blueprint = Blueprint("drift", __name__, url_prefix="/api/v1", description="What nobody knew")


class DriftSchema(Schema):
    """Something new: an unknown word of a known field, an unknown field with its JSON type, or how a known field's
    value did not read. `(others)` stands for all of its kind that came when there were too many to keep by name."""

    kind = Word(DriftKind)
    product = Word(Product)
    integration = Text()
    field = Text()
    value = Text(metadata={"description": "The word, the JSON type or the problem; empty for (others)"})
    count = Number(1, metadata={"description": "Outcomes that show it"})
    first_at = Moment(metadata={"description": "When the first of them was received"})
    last_at = Moment()
    delivery_id = Key(metadata={"description": "That made the first of them"})

    def record(self, row: Mapping[str, Any], *, reveal: bool) -> dict[str, Any]:
        """The row as analysts see it: a sender may put a phone number anywhere."""
        shown: dict[str, Any] = self.dump(row)
        if not reveal:
            shown |= {name: mask_digits(shown[name]) for name in ("field", "value")}
        return shown


class DriftAnswer(Schema):
    """The newest first."""

    data = fields.List(fields.Nested(DriftSchema), required=True)


@dataclass(frozen=True, slots=True)
class DriftAsked:
    """Of what was first shown `since`, that whose columns have one of the values."""

    since: datetime | None = None
    among: Mapping[str, list[str]] = field(default_factory=dict)


class DriftQuestion(Schema):
    class Meta:
        unknown = RAISE

    since = Once(Moment(), metadata={"description": "First shown then or later"})
    tz = Once(Zone(), metadata={"description": "Where a time without an offset is local; UTC unless said"})
    kind = Several(Word(DriftKind), metadata={"description": "Any of these"})
    product = Several(Word(Product), metadata={"description": "Any of these"})
    integration = Several(Text(), metadata={"description": "Any of these"})

    @post_load
    def asked(self, loaded: dict[str, Any], **kwargs: Any) -> DriftAsked:
        among: dict[str, list[str]] = {
            name: loaded[name] for name in ("kind", "product", "integration") if name in loaded
        }
        return DriftAsked(loaded.get("since"), among)

    def handle_error(self, error: ValidationError, data: Mapping[str, Any], **kwargs: Any) -> None:
        messages: dict[str, Any] = error.messages  # type: ignore[assignment]
        for name in data.keys() - self.fields.keys():
            messages[name] = [f"unknown; there are {', '.join(self.fields)}"]


@blueprint.get("/drift")
@needs(Scope.READ, gated=False)
@blueprint.asks(DriftQuestion())
@blueprint.answers(DriftAnswer)
def show_drift(asked: DriftAsked) -> Response:
    """What nobody knew: words, fields and types, with first and last time, how often, and by which delivery first."""
    schema = DriftSchema()
    rows = parts().router.drift(asked.since, asked.among)
    return jsonify({"data": [schema.record(row, reveal=g.reveal) for row in rows]})
