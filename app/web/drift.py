"""Drift: words, fields and problems unknown until they came, so that a change by Plum is seen the same day."""

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

blueprint = Blueprint("drift", __name__, url_prefix="/api/v1", description="Unknown words, fields and problems")


class DriftSchema(Schema):
    """Something new: an unknown word in a known field, an unknown field with its JSON type, or a problem with a known
    field's value. `(others)` stands for all of a kind that came after too many were kept by name."""

    kind = Word(DriftKind)
    product = Word(Product)
    integration = Text()
    field = Text()
    value = Text(metadata={"description": "The word, the JSON type or the problem; empty for (others)"})
    count = Number(1, metadata={"description": "Outcomes that show it"})
    first_at = Moment(metadata={"description": "When the first of them was received"})
    last_at = Moment()
    delivery_id = Key(metadata={"description": "The delivery of the first of them"})

    def record(self, row: Mapping[str, Any], *, reveal: bool) -> dict[str, Any]:
        """Return the row as analysts see it, with digits masked: a sender may put a phone number anywhere."""
        record: dict[str, Any] = self.dump(row)
        if not reveal:
            record |= {name: mask_digits(record[name]) for name in ("field", "value")}
        return record


class DriftAnswer(Schema):
    """The newest first."""

    data = fields.List(fields.Nested(DriftSchema), required=True)


@dataclass(frozen=True, slots=True)
class DriftQuery:
    """The filters of drift: first seen `since` then, and one of the values in each column of `among`."""

    since: datetime | None = None
    among: Mapping[str, list[str]] = field(default_factory=dict)


class DriftQuestion(Schema):
    class Meta:
        unknown = RAISE

    since = Once(Moment(), metadata={"description": "First seen at or after this time"})
    tz = Once(Zone(), metadata={"description": "The zone of a time without an offset; default UTC"})
    kind = Several(Word(DriftKind), metadata={"description": "Any of these"})
    product = Several(Word(Product), metadata={"description": "Any of these"})
    integration = Several(Text(), metadata={"description": "Any of these"})

    @post_load
    def build_query(self, loaded: dict[str, Any], **kwargs: Any) -> DriftQuery:
        among: dict[str, list[str]] = {
            name: loaded[name] for name in ("kind", "product", "integration") if name in loaded
        }
        return DriftQuery(loaded.get("since"), among)

    def handle_error(self, error: ValidationError, data: Mapping[str, Any], **kwargs: Any) -> None:
        messages: dict[str, Any] = error.messages  # type: ignore[assignment]
        for name in data.keys() - self.fields.keys():
            messages[name] = [f"unknown; there are {', '.join(self.fields)}"]


@blueprint.get("/drift")
@needs(Scope.READ, limited=False)
@blueprint.asks(DriftQuestion())
@blueprint.answers(DriftAnswer)
def show_drift(query: DriftQuery) -> Response:
    """Unknown words, fields and problems: how often, with first and last time, and the first delivery."""
    schema = DriftSchema()
    rows = parts().router.drift(query.since, query.among)
    return jsonify({"data": [schema.record(row, reveal=g.reveal) for row in rows]})
