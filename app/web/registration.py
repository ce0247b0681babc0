"""Parses calls that others queued and register here: JSON objects, or rows of a CSV file."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validates_schema
from marshmallow.validate import Length

from app.cooperative import cooperatively
from app.exports.cells import json_text
from app.identity import expected_id
from app.model import CallState, ExpectedCall
from app.values import EARLIEST, LATEST, BadValue, clean, phone, storable
from app.web.errors import Invalid
from app.web.fields import Moment, parse_moment

MAX_NAME = 255  # characters of a reference, a batch or a call id
MAX_METADATA = 16_384  # characters, as JSON
MAX_DEPTH = 10  # of nested lists and objects in the metadata


class Name(fields.String):
    """A text of 1 to 255 characters. A JSON integer is read as its digits."""

    def __init__(self, **kwargs: Any) -> None:
        messages: dict[str, Any] = {"invalid": "no text", "null": "may be left out, but not null"}
        super().__init__(validate=Length(1, MAX_NAME), error_messages=messages, **kwargs)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        return storable(super()._deserialize(value, *args, **kwargs)) or ""


class PhoneNumber(fields.String):
    """A phone number as it is dialled in the region, parsed to E.164."""

    def __init__(self, region: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._region = region

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return phone(super()._deserialize(value, *args, **kwargs), self._region)
        except BadValue:
            raise ValidationError("no full phone number; give it like +16175551234") from None


class WindowEnd(Moment):
    """An RFC 3339 time, in UTC if it has no offset, or Unix seconds."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> datetime:
        return _window_end(str(value))


def window_end(text: str) -> datetime:
    """Parse the end of a window as `WindowEnd` does. Raises `Invalid`."""
    try:
        return _window_end(text)
    except ValidationError as error:
        raise Invalid({"time": [str(error.messages[0])]}) from None


def _window_end(text: str) -> datetime:
    is_unix = text.isascii() and text.isdigit() and len(text) < 12
    moment = datetime.fromtimestamp(int(text), UTC) if is_unix else parse_moment(text, UTC)
    if not EARLIEST <= moment <= LATEST:
        raise ValidationError("lies outside of 2000 to 2100")
    return moment


class RegistrationSchema(Schema):
    """A call that was queued, and the fields that identify its result."""

    class Meta:
        unknown = RAISE

    integration = Name(required=True)
    reference = Name(metadata={"description": "From `call/REFERENCE` in its result_url, or DEV's message_reference"})
    call_id = Name(metadata={"description": "Plum's, from the answer to the queue call"})
    phone_number = PhoneNumber("US")
    batch = Name()
    ends_at = WindowEnd(metadata={"description": "The end of its window; without one it is due at once"})
    metadata = fields.Dict(keys=fields.String(), values=fields.Raw(allow_none=True))

    def __init__(self, integrations: Collection[str] = (), region: str = "US", **options: Any) -> None:
        super().__init__(**options)
        self._integrations = integrations
        self.fields["phone_number"]._region = region  # type: ignore[attr-defined]

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def _check_whole(self, loaded: dict[str, Any], sent: Any, **kwargs: Any) -> None:
        errors = {}
        invalid = sent.keys() - loaded.keys() if isinstance(sent, Mapping) else set()
        metadata = loaded.get("metadata", {})
        if not _is_plain(metadata):
            errors["metadata"] = f"holds NaN or an infinity, or lists and objects more than {MAX_DEPTH} deep"
        elif len(json_text(metadata)) > MAX_METADATA:
            errors["metadata"] = f"has more than {MAX_METADATA} characters"
        if not (loaded.get("reference") or loaded.get("call_id") or invalid & {"reference", "call_id"}):
            errors["reference"] = "give reference or call_id: one of them identifies its result"
        if "integration" in loaded and loaded["integration"] not in self._integrations:
            errors["integration"] = "no integration has this name; see: plum-outcomes integration list"
        if errors:
            raise ValidationError({name: [text] for name, text in errors.items()})

    @post_load
    def call(self, loaded: dict[str, Any], **kwargs: Any) -> ExpectedCall:
        ids = {name: loaded.get(name) for name in ("integration", "reference", "call_id", "phone_number", "batch")}
        key = expected_id(ids["integration"], ids["reference"], ids["call_id"], ids["batch"], ids["phone_number"])  # type: ignore[arg-type]
        return ExpectedCall(
            id=key,
            **ids,  # type: ignore[arg-type]
            ends_at=loaded.get("ends_at"),
            metadata=clean(loaded.get("metadata", {})),
            state=CallState.WAITING,
            registered_at=datetime.now(UTC),
        )


def _is_plain(metadata: Any) -> bool:
    """True if JSON can hold the metadata: not too deep for parsers, and without NaN and infinities."""
    level, depth = [metadata], 0
    while level and depth <= MAX_DEPTH:
        if any(isinstance(value, float) and not math.isfinite(value) for value in level):
            return False
        level, depth = [inner for value in level for inner in _inner(value)], depth + 1
    return not level


def _inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def calls_from(body: Any, integrations: Collection[str], region: str) -> list[ExpectedCall]:
    """Parse one object, or a list of them. Raises `Invalid` with every error, by position and field."""
    objects = body if isinstance(body, list) else [body]
    schema = RegistrationSchema(integrations, region)
    calls, errors = [], dict[str, list[str]]()
    for index, item in enumerate(cooperatively(objects)):
        place = f"[{index}]." if isinstance(body, list) else ""
        if not isinstance(item, dict):
            errors[f"{place}body"] = ["is no object of JSON"]
            continue
        try:
            calls.append(schema.load(item))
        except ValidationError as error:
            errors |= {f"{place}{name}": _flat(texts) for name, texts in error.messages.items()}  # type: ignore[union-attr]
    if errors:
        raise Invalid(errors)
    return calls


def _flat(texts: Any) -> list[str]:
    if isinstance(texts, Mapping):
        return [text for inner in texts.values() for text in _flat(inner)]
    return [texts] if isinstance(texts, str) else [text for inner in texts for text in _flat(inner)]


_FIELDS = ("integration", "reference", "call_id", "phone_number", "batch", "ends_at")


def objects_from(rows: Iterable[Mapping[str, str | None]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV file as such objects. Empty cells are left out; unknown columns are metadata."""
    for row in rows:
        filled = {name: text for name, text in row.items() if text}
        known = {name: filled[name] for name in _FIELDS if name in filled}
        yield known | {"metadata": {name: text for name, text in filled.items() if name not in _FIELDS}}


def first_wrong(error: Invalid, lines: Sequence[int]) -> str:
    """Return one line about a file: its first wrong line with the error, and how many more errors there are."""
    place, texts = next(iter(error.errors.items()))
    index, _, field = place.removeprefix("[").partition("].")
    more = len(error.errors) - 1
    rest = f" (and {more} more)" if more else ""
    return f"line {lines[int(index)]}: {field}: {texts[0]}{rest}"
