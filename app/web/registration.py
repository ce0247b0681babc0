"""Calls that others queued, as they are told to us: objects of JSON, or rows of a CSV file."""

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
MAX_DEPTH = 10  # of lists and objects in it


class Name(fields.String):
    """A text of 1 to 255 characters; a number is its digits."""

    def __init__(self, **kwargs: Any) -> None:
        wrong: dict[str, Any] = {"invalid": "no text", "null": "may be left out, but not null"}
        super().__init__(validate=Length(1, MAX_NAME), error_messages=wrong, **kwargs)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        return storable(super()._deserialize(value, *args, **kwargs)) or ""


class PhoneNumber(fields.String):
    """As dialled; read as E.164."""

    def __init__(self, region: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._region = region

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return phone(super()._deserialize(value, *args, **kwargs), self._region)
        except BadValue:
            raise ValidationError("no full phone number; give it like +16175551234") from None


class WindowEnd(Moment):
    """RFC 3339, in UTC where it has no offset; or Unix seconds."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> datetime:
        return _window_end(str(value))


def window_end(text: str) -> datetime:
    """The same of a text alone. Raises `Invalid`."""
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
    """A call that was queued, and by what its result will be known."""

    class Meta:
        unknown = RAISE

    integration = Name(required=True)
    reference = Name(metadata={"description": "Of `call/REFERENCE` in its result_url, or DEV's message_reference"})
    call_id = Name(metadata={"description": "Plum's, from the answer to the queue call"})
    phone_number = PhoneNumber("US")
    batch = Name()
    ends_at = WindowEnd(metadata={"description": "The end of its window; without one it is due at once"})
    metadata = fields.Dict(keys=fields.String(), values=fields.Raw(allow_none=True))

    def __init__(self, integrations: Collection[str] = (), region: str = "US", **options: Any) -> None:
        super().__init__(**options)
        self._integrations = integrations
        self.fields["phone_number"]._region = region  # type: ignore[attr-defined]

    @validates_schema(skip_on_field_errors=False)
    def _is_whole(self, told: dict[str, Any], **kwargs: Any) -> None:
        wrong = {}
        metadata = told.get("metadata", {})
        if not _is_plain(metadata):
            wrong["metadata"] = f"holds what is no number of JSON, or lists and objects more than {MAX_DEPTH} deep"
        elif len(json_text(metadata)) > MAX_METADATA:
            wrong["metadata"] = f"has more than {MAX_METADATA} characters"
        if not told.get("reference") and not told.get("call_id"):
            wrong["reference"] = "give reference or call_id: by one of them its result is known"
        if "integration" in told and told["integration"] not in self._integrations:
            wrong["integration"] = "no integration has this name; see: plum-outcomes integration list"
        if wrong:
            raise ValidationError({name: [text] for name, text in wrong.items()})

    @post_load
    def call(self, told: dict[str, Any], **kwargs: Any) -> ExpectedCall:
        of = {name: told.get(name) for name in ("integration", "reference", "call_id", "phone_number", "batch")}
        key = expected_id(of["integration"], of["reference"], of["call_id"], of["batch"], of["phone_number"])  # type: ignore[arg-type]
        return ExpectedCall(
            id=key,
            **of,  # type: ignore[arg-type]
            ends_at=told.get("ends_at"),
            metadata=clean(told.get("metadata", {})),
            state=CallState.WAITING,
            registered_at=datetime.now(UTC),
        )


def _is_plain(metadata: Any) -> bool:
    """Without depth that readers give up at, and without NaN and infinities, which JSON does not know."""
    level, depth = [metadata], 0
    while level and depth <= MAX_DEPTH:
        if any(isinstance(value, float) and not math.isfinite(value) for value in level):
            return False
        level, depth = [inner for value in level for inner in _inner(value)], depth + 1
    return not level


def _inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def calls_from(told: Any, integrations: Collection[str], region: str) -> list[ExpectedCall]:
    """The calls of one object or a list of them. Raises `Invalid` with what is wrong, by place and field."""
    objects = told if isinstance(told, list) else [told]
    schema = RegistrationSchema(integrations, region)
    found, wrong = [], dict[str, list[str]]()
    for at, one in enumerate(cooperatively(objects)):
        place = f"[{at}]." if isinstance(told, list) else ""
        if not isinstance(one, dict):
            wrong[f"{place}body"] = ["is no object of JSON"]
            continue
        try:
            found.append(schema.load(one))
        except ValidationError as error:
            wrong |= {f"{place}{name}": _flat(texts) for name, texts in error.messages.items()}  # type: ignore[union-attr]
    if wrong:
        raise Invalid(wrong)
    return found


def _flat(texts: Any) -> list[str]:
    if isinstance(texts, Mapping):
        return [text for inner in texts.values() for text in _flat(inner)]
    return [texts] if isinstance(texts, str) else [text for inner in texts for text in _flat(inner)]


_OWN = ("integration", "reference", "call_id", "phone_number", "batch", "ends_at")


def objects_from(rows: Iterable[Mapping[str, str | None]]) -> Iterator[dict[str, Any]]:
    """Rows of a CSV file as such objects: empty cells are left out, columns that nobody knows are metadata."""
    for row in rows:
        filled = {name: text for name, text in row.items() if text}
        known = {name: filled[name] for name in _OWN if name in filled}
        yield known | {"metadata": {name: text for name, text in filled.items() if name not in _OWN}}


def first_wrong(error: Invalid, lines: Sequence[int]) -> str:
    """One line for a file: which line of it is wrong in what, and how many more are."""
    place, texts = next(iter(error.errors.items()))
    at, _, field = place.removeprefix("[").partition("].")
    more = len(error.errors) - 1
    rest = f" (and {more} more)" if more else ""
    return f"line {lines[int(at)]}: {field}: {texts[0]}{rest}"
