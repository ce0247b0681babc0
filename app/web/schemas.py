"""The records as analysts see them: names, types and documentation of the fields, in the contract's order."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from marshmallow import Schema, fields

from app.masking import masked
from app.model import AnsweredBy, CalleeType, CallState, Disposition, Identity, Product, Status, Verdict, Via
from app.query_router import Kind
from app.store.query.question import Records
from app.web.fields import E164, Digest, Flag, Key, Moment, Nested, Number, Text, Word

_NULLABLE = {"type": ["string", "null"]}


def _objects(**properties: Any) -> dict[str, Any]:
    """Return the documentation of a list of objects with these properties."""
    return {"type": "array", "items": {"type": "object", "properties": properties}}


class RecordSchema(Schema):
    """Turns a row into a record."""

    records: ClassVar[Records]
    moment: ClassVar[str]  # the field of `since` and `until`, and of the default sort order

    def __init__(self, *, reveal: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.reveal = reveal

    def record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row as analysts see it.

        Does the same as `dump`, which spends most of its time on looking up values that a mapping has at hand.
        """
        record = {name: field._serialize(row[name], name, row) for name, field in self.dump_fields.items()}
        return record if self.reveal else masked(record)


class OutcomeSchema(RecordSchema):
    """One call's result."""

    records = Records.OUTCOMES
    moment = "ended_at"

    id = Key()
    integration = Text()
    product = Word(Product)
    identity = Word(Identity)
    call_id = Text(allow_none=True)
    message_reference = Text(allow_none=True)
    reference = Text(allow_none=True)
    batch = Text(allow_none=True)
    phone_number = E164(allow_none=True)
    phone_number_raw = Text(allow_none=True)
    status = Word(Status)
    status_raw = Text(allow_none=True)
    callee_type = Word(CalleeType, allow_none=True)
    callee_type_raw = Text(allow_none=True)
    disposition = Word(Disposition)
    answered_by = Word(AnsweredBy, allow_none=True)
    attempts = Number(allow_none=True)
    max_attempts = Number(allow_none=True)
    reattempt_wait_seconds = Number(allow_none=True)
    duration_seconds = Number(allow_none=True)
    queued_at = Moment(allow_none=True)
    start_at = Moment(allow_none=True)
    end_at = Moment(allow_none=True)
    last_attempt_at = Moment(allow_none=True)
    connected_at = Moment(allow_none=True)
    disconnected_at = Moment(allow_none=True)
    ended_at = Moment()
    received_at = Moment()
    updated_at = Moment()
    events = Nested(metadata=_objects(event=_NULLABLE, at=_NULLABLE))
    extra = Nested(metadata={"type": "object"})
    problems = Nested(metadata=_objects(field={"type": "string"}, value={}, problem={"type": "string"}))
    deliveries = Number()
    possible_duplicate = Flag()
    normaliser = Text()
    metadata = Nested(metadata={"type": "object"})


class DeliverySchema(RecordSchema):
    """One callback as it came."""

    records = Records.DELIVERIES
    moment = "received_at"

    id = Key()
    integration = Text()
    product = Word(Product, allow_none=True)
    received_at = Moment()
    via = Word(Via)
    verdict = Word(Verdict)
    reason = Text(allow_none=True)
    outcome_id = Key(allow_none=True)
    reference = Text(allow_none=True)
    batch = Text(allow_none=True)
    content_type = Text(allow_none=True)
    headers = Nested(metadata={"type": "array", "items": {"type": "array", "items": {"type": "string"}}})
    query = Text()
    remote_addr = Text(allow_none=True)
    size = Number()
    sha256 = Digest()
    problems = Nested(metadata=_objects(field={"type": "string"}, value={}, problem={"type": "string"}))
    normaliser = Text()


class AuditSchema(RecordSchema):
    """One access to phone numbers or bodies, one export, or one change."""

    records = Records.AUDIT
    moment = "at"

    id = Key()
    at = Moment()
    who = Text()
    what = Text()
    asked = Nested(metadata={"type": "array", "items": {"type": "array", "items": {"type": "string"}}})
    record_id = Key(allow_none=True)
    remote_addr = Text(allow_none=True)
    status = Number(allow_none=True)


class ExpectedCallSchema(RecordSchema):
    """One call that was queued; `state` is what is known of its result."""

    records = Records.EXPECTED_CALLS
    moment = "registered_at"

    id = Key()
    integration = Text()
    reference = Text(allow_none=True)
    call_id = Text(allow_none=True)
    phone_number = E164(allow_none=True)
    batch = Text(allow_none=True)
    ends_at = Moment(allow_none=True)
    metadata = Nested(metadata={"type": "object"})
    state = Word(CallState)
    registered_at = Moment()
    queued_at = Moment(allow_none=True)
    polled_at = Moment(allow_none=True)
    outcome_id = Key(allow_none=True)


class CallCountsSchema(Schema):
    """Counts of one batch's expected calls. `received` includes `polled`; `missing` calls are past their window."""

    integration = Text(required=True)
    batch = Text(required=True, allow_none=True)
    expected = Number(required=True)
    received = Number(required=True)
    missing = Number(required=True)
    waiting = Number(required=True)
    polled = Number(required=True)
    unknown_to_plum = Number(required=True)
    refused = Number(required=True)


class CountSchema(Schema):
    """How many records match the filter."""

    value = Number(required=True, allow_none=True)
    kind = Word(Kind, required=True)


@cache
def data_of(kind: type[Schema]) -> type[Schema]:
    """Return the schema of a list without pages."""
    return Schema.from_dict({"data": fields.List(fields.Nested(kind), required=True)}, name=f"DataOf{kind.__name__}")


@cache
def page_of(kind: type[RecordSchema]) -> type[Schema]:
    """Return the schema of a page of a list; `next` and `prev` are null at the ends."""
    return Schema.from_dict(
        {
            "data": fields.List(fields.Nested(kind), required=True),
            "next": fields.String(required=True, allow_none=True),
            "prev": fields.String(required=True, allow_none=True),
            "count": fields.Nested(CountSchema, required=True),
        },
        name=f"PageOf{kind.__name__}",
    )
