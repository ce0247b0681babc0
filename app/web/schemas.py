"""The records as analysts see them, in the contract's order: what a field is called, holds and shows.

Without the scope `reveal` phone numbers are masked, wherever they stand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import phonenumbers
from marshmallow import Schema, fields

from app.model import AnsweredBy, CalleeType, Disposition, Identity, Product, Status, Verdict, Via

MASK = "•••"
PHONE_FIELDS = frozenset({"phone_number", "phone_number_raw"})

_PHONE_NAME = re.compile(r"phone|\bani\b|msisdn|destination|caller|callee|\btel\b|mobile|\bcell|\bfax", re.I)
_NUMBER_LIKE = re.compile(r"\+?\(?\d[\d\s().\-/]{5,}\d")


class Moment(fields.AwareDateTime):
    """RFC 3339 in UTC, with `Z`."""

    def _serialize(self, value: datetime | None, *args: Any, **kwargs: Any) -> str | None:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value else None


class Word(fields.String):
    """One of an enumeration's words."""

    def __init__(self, words: type[StrEnum], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words = [word.value for word in words]


class Number(fields.Integer):
    """0 to 2³¹−1."""


class Digest(fields.Field[bytes]):
    """SHA-256 in hex."""

    def _serialize(self, value: bytes | None, *args: Any, **kwargs: Any) -> str | None:
        return value.hex() if value is not None else None


class Nested(fields.Raw):
    """A list or object; not to be compared."""


class RecordSchema(Schema):
    """A record from a row. `region` is where national phone numbers belong, for telling them when masking."""

    def __init__(self, *, reveal: bool, region: str = "US") -> None:
        super().__init__()
        self.reveal = reveal
        self.region = region

    def record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row as analysts see it."""
        shown: dict[str, Any] = self.dump(row)
        return shown if self.reveal else masked(shown, self.region)


class OutcomeSchema(RecordSchema):
    """One call's result."""

    id = fields.UUID()
    integration = fields.String()
    product = Word(Product)
    identity = Word(Identity)
    call_id = fields.String()
    message_reference = fields.String()
    reference = fields.String()
    batch = fields.String()
    phone_number = fields.String()
    phone_number_raw = fields.String()
    status = Word(Status)
    status_raw = fields.String()
    callee_type = Word(CalleeType)
    callee_type_raw = fields.String()
    disposition = Word(Disposition)
    answered_by = Word(AnsweredBy)
    attempts = Number()
    max_attempts = Number()
    reattempt_wait_seconds = Number()
    duration_seconds = Number()
    queued_at = Moment()
    start_at = Moment()
    end_at = Moment()
    last_attempt_at = Moment()
    connected_at = Moment()
    disconnected_at = Moment()
    ended_at = Moment()
    received_at = Moment()
    updated_at = Moment()
    events = Nested()
    extra = Nested()
    problems = Nested()
    deliveries = Number()
    possible_duplicate = fields.Boolean()
    normaliser = fields.String()


class DeliverySchema(RecordSchema):
    """One callback as it came."""

    id = fields.UUID()
    integration = fields.String()
    product = Word(Product)
    received_at = Moment()
    via = Word(Via)
    verdict = Word(Verdict)
    reason = fields.String()
    outcome_id = fields.UUID()
    reference = fields.String()
    batch = fields.String()
    content_type = fields.String()
    headers = Nested()
    query = fields.String()
    remote_addr = fields.String()
    size = Number()
    sha256 = Digest()
    problems = Nested()
    normaliser = fields.String()


def masked(record: dict[str, Any], region: str) -> dict[str, Any]:
    """The record with only the ends of phone numbers."""
    mask = _Mask(region)
    shown = dict(record)
    for name in PHONE_FIELDS & shown.keys():
        shown[name] = mask_e164(shown[name]) if name == "phone_number" else mask_text(shown[name])
    for name in {"extra", "query"} & shown.keys():
        shown[name] = mask.within(shown[name])
    shown["problems"] = [
        problem | {"field": mask.within(problem["field"]), "value": mask.under(problem["field"], problem["value"])}
        for problem in shown["problems"]
    ]
    return shown


def mask_e164(number: str | None) -> str | None:
    """The first five and last four characters, `+1617•••1234`; of a number too short for that, the last four."""
    if number is None:
        return None
    return f"{number[:5]}{MASK}{number[-4:]}" if len(number) > 9 else f"{MASK}{number[-4:]}"


def mask_text(text: str | None) -> str | None:
    """Of a phone as sent only the last four digits."""
    if text is None:
        return None
    return MASK + "".join(character for character in text if character.isdigit())[-4:]


class _Mask:
    """Hides phones wherever they stand: all that is under a phone's name, elsewhere what looks like one."""

    def __init__(self, region: str) -> None:
        self.region = region

    def under(self, name: str, value: Any) -> Any:
        return self._whole(value) if _PHONE_NAME.search(name) else self.within(value)

    def within(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.within(item) for item in value]
        if isinstance(value, dict):
            return {self.within(name): self.under(name, item) for name, item in value.items()}
        if isinstance(value, str):
            return _NUMBER_LIKE.sub(self._if_phone, value)
        if _is_number(value) and self._looks_like_phone(f"{value:.0f}"):
            return mask_text(f"{value:.0f}")
        return value

    def _whole(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._whole(item) for item in value]
        if isinstance(value, dict):
            return {mask_text(name): self._whole(item) for name, item in value.items()}
        return mask_text(str(value)) if isinstance(value, str) or _is_number(value) else value

    def _if_phone(self, match: re.Match[str]) -> str:
        return mask_text(match[0]) or "" if self._looks_like_phone(match[0]) else match[0]

    def _looks_like_phone(self, text: str) -> bool:
        try:
            return phonenumbers.is_valid_number(phonenumbers.parse(text, self.region))
        except phonenumbers.NumberParseException:
            return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
