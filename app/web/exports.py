"""The parameters of exports: the filters, sort order and fields of the list, but all rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import fields, post_load
from marshmallow.fields import Field
from werkzeug.datastructures import MultiDict

from app.exports.columns import Column, Kind
from app.store.query.question import Question
from app.web.errors import Forbidden
from app.web.fields import Flag, Moment, Nested, Number, Text, one_of
from app.web.filters import ListSchema, parse, permit
from app.web.parameters import Once, Several
from app.web.schemas import DeliverySchema, OutcomeSchema, RecordSchema

BODY = "body_base64"  # a column of deliveries, for tokens that may reveal; with it an export can be imported
REDIAL = "redial"
CONTENT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
}

_COLUMNS = {"description": "Only these columns, in this order"}
_RAW = {"description": "CSV: text cells exact, without the guard against formulas", "example": True}

_KINDS: Mapping[type[Field[Any]], Kind] = {
    Number: Kind.NUMBER,
    fields.Boolean: Kind.FLAG,
    Moment: Kind.MOMENT,
    Nested: Kind.JSON,
}


@dataclass(frozen=True, slots=True)
class ExportQuery:
    """The question and the fields, None for all. `raw` leaves out the guard of CSV's text cells."""

    question: Question
    fields: list[str] | None = None
    raw: bool = False


class ExportSchema(ListSchema):
    """The parameters of a list, without pages and count."""

    @classmethod
    def _controls(cls, record: RecordSchema) -> dict[str, Field[Any]]:
        names = [*record.fields, BODY] if isinstance(record, DeliverySchema) else list(record.fields)
        controls = super()._controls(record) | {
            "fields": Several(Text(validate=one_of(names)), metadata=_COLUMNS | {"example": ["id", record.moment]}),
            "raw": Once(Flag(), metadata=_RAW),
        }
        return {name: field for name, field in controls.items() if name not in ("limit", "cursor", "count")}

    @post_load
    def build_query(self, loaded: dict[str, Any], **kwargs: Any) -> ExportQuery:
        question = super().build_query(loaded).question
        return ExportQuery(question, loaded.get("fields"), loaded.get("raw", False))


class RedialSchema(ExportSchema):
    """The parameters of a contact list, whose columns Plum prescribes."""

    @classmethod
    def _controls(cls, record: RecordSchema) -> dict[str, Field[Any]]:
        return {name: field for name, field in super()._controls(record).items() if name not in ("fields", "raw")}


RECORDS: Mapping[str, type[RecordSchema]] = {"outcomes": OutcomeSchema, "deliveries": DeliverySchema}
SCHEMAS: Mapping[str, ExportSchema] = {
    **{name: ExportSchema.about(record) for name, record in RECORDS.items()},
    REDIAL: RedialSchema.about(OutcomeSchema),
}


def parse_export(records: str, args: MultiDict[str, str], *, reveal: bool) -> ExportQuery:
    """Parse the parameters of an export.

    Raises `Invalid` with every error by parameter, and `Forbidden` if the export would reveal masked numbers.
    """
    export: ExportQuery = parse(args, SCHEMAS[records])
    permit_all(export, reveal=reveal)
    return export


def permit_all(found: ExportQuery, *, reveal: bool) -> None:
    """Raises `Forbidden` if the export would reveal masked numbers."""
    permit(found.question, reveal=reveal)
    if BODY in (found.fields or ()) and not reveal:
        raise Forbidden(f"{BODY} needs the scope reveal")


def columns(record: type[RecordSchema], chosen: list[str] | None, *, body: bool) -> list[Column]:
    """Return the chosen columns in that order, else all in the record's order; `body` adds the delivery's body."""
    known = {name: _kind(field) for name, field in record().fields.items()}
    names = chosen if chosen is not None else [*known, BODY] if body else list(known)
    return [Column(name, known.get(name, Kind.TEXT)) for name in names]


def _kind(field: Field[Any]) -> Kind:
    return next((kind for field_type, kind in _KINDS.items() if isinstance(field, field_type)), Kind.TEXT)
