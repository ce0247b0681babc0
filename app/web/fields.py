"""The types of records' fields: how each is serialised, how a filter's text is parsed, and how both are documented.

A text that does not fit raises marshmallow's `ValidationError`, which says what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from marshmallow import ValidationError, fields
from marshmallow.validate import OneOf, Range

from app.values import MAX_NUMBER, storable

_UNESCAPED_PLUS = re.compile(r" (\d\d:?\d\d)$")
# The times that a filter accepts, with or without an offset. Times in records are always in UTC.
_DATE = r"[1-9]\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2\d))"
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?"
TIME_PATTERN = f"{_DATE}([T ]{_CLOCK}(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)?)?"
TIME_IN_FILTERS = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "pattern": f"^{TIME_PATTERN}$"}],
    "examples": ["2026-03-08", "2026-03-08T14:30:00", "2026-03-08T14:30:00Z"],
}


class Text(fields.String):
    """Any text. Characters that a store cannot hold are replaced in filters as they were in records."""

    def _deserialize(self, value: str, *args: Any, **kwargs: Any) -> str:
        return storable(value) or ""


class E164(Text):
    """A phone number like `+16175551234`."""

    def _deserialize(self, value: str, *args: Any, **kwargs: Any) -> str:
        is_unescaped = value.startswith(" ")  # an unescaped plus is a space
        return super()._deserialize(f"+{value[1:]}" if is_unescaped else value, *args, **kwargs)


class Word(fields.String):
    """One of an enumeration's words."""

    def __init__(self, words: type[StrEnum], **kwargs: Any) -> None:
        super().__init__(validate=one_of([word.value for word in words]), **kwargs)
        self.words = words


class Number(fields.Integer):
    """A whole number, by default 0 to 2³¹−1."""

    def __init__(self, least: int = 0, most: int = MAX_NUMBER, **kwargs: Any) -> None:
        super().__init__(validate=Range(least, most), **kwargs)
        self.least, self.most = least, most

    def _deserialize(self, value: str, *args: Any, **kwargs: Any) -> int:
        if not (value.isascii() and value.isdigit() and len(value) < 12 and self.least <= int(value) <= self.most):
            raise ValidationError(f"{value!r} is no whole number from {self.least} to {self.most}")
        return int(value)


class Flag(fields.Boolean):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            truthy={"true"}, falsy={"false"}, error_messages={"invalid": "neither true nor false"}, **kwargs
        )


class Key(fields.UUID):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(error_messages={"invalid_uuid": "no UUID"}, **kwargs)


class Digest(fields.Field[bytes]):
    """SHA-256 in hex."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}, **kwargs)

    def _serialize(self, value: bytes | None, *args: Any, **kwargs: Any) -> str | None:
        return value.hex() if value is not None else None

    def _deserialize(self, value: str, *args: Any, **kwargs: Any) -> bytes:
        if not re.fullmatch("[0-9a-fA-F]{64}", value):
            raise ValidationError(f"{value!r} is no SHA-256 in hex")
        return bytes.fromhex(value)


class Moment(fields.AwareDateTime):
    """RFC 3339 in UTC, with `Z`. A time in a filter may lack the offset; it is then local in the question's `tz`."""

    def _serialize(self, value: datetime | None, *args: Any, **kwargs: Any) -> str | None:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value else None

    def _deserialize(self, value: str, attr: Any, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:
        return parse_moment(value, zone_of(data))


class Nested(fields.Raw):
    """A list or object. It is empty rather than null, and cannot be compared."""


class Zone(fields.Field[ZoneInfo]):
    """The name of an IANA time zone."""

    def _deserialize(self, value: str, *args: Any, **kwargs: Any) -> ZoneInfo:
        if value not in zones():
            raise ValidationError(f"{value!r} is no IANA time zone; use one like America/New_York")
        return ZoneInfo(value)


def one_of(words: list[str]) -> OneOf:
    return OneOf(words, error="{input!r} is none of {choices}")


@cache
def zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime"})  # it differs from server to server


def zone_of(data: Mapping[str, Any] | None) -> tzinfo:
    """Return the zone of times without an offset. A wrong `tz` counts as UTC here; it has an error of its own."""
    names = (data or {}).get("tz")
    return ZoneInfo(names[0]) if names and names[0] in zones() else UTC


def parse_moment(text: str, zone: tzinfo) -> datetime:
    """Parse a time with its offset, or local in `zone`; a bare date is its midnight."""
    try:
        moment = datetime.fromisoformat(_UNESCAPED_PLUS.sub(r"+\1", text.strip().upper()))
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        raise ValidationError(f"{text!r} lies outside of the years 1 to 9999 in UTC") from None
    except ValueError:
        allowed = "use 2026-03-08, 2026-03-08T14:30:00 or 2026-03-08T14:30:00Z"
        raise ValidationError(f"{text!r} is no time; {allowed}") from None
