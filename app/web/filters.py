"""What an analyst asks in a query string, checked against the record's schema: a Question, or every error named."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from marshmallow import fields
from werkzeug.datastructures import MultiDict

from app.store.questions import Edge, Question
from app.values import MAX_NUMBER, storable
from app.web.errors import Forbidden, Invalid
from app.web.schemas import PHONE_FIELDS, Digest, Moment, Nested, Number, RecordSchema, Word

MAX_LIMIT = 1000
CONTROLS = ("since", "until", "tz", "sort", "limit", "cursor", "count")
COUNTS = ("none", "exact")

_UNESCAPED_PLUS = re.compile(r" (\d\d:?\d\d)$")


class Odd(ValueError):
    """A value that does not fit; the text says what is allowed."""


def question(args: MultiDict[str, str], schema: RecordSchema, moment: str) -> Question:
    """The question that the parameters put to records ordered by `moment`.

    Raises `Invalid` with every error by parameter, `Forbidden` for a filter that would give a masked number away.
    """
    asked = _Asked(args)
    zone = asked.one("tz", _zone, UTC)
    sort = asked.one("sort", lambda text: _sort(text, moment), f"-{moment}")
    edge = asked.one("cursor", lambda text: _edge(text, sort), {})
    asked.one("count", _count, "none")
    found = Question(
        equal=_equal(asked, schema, zone),
        since=asked.one("since", lambda text: parse_moment(text, zone), None),
        until=asked.one("until", lambda text: parse_moment(text, zone), None),
        newest_first=sort.startswith("-"),
        limit=asked.one("limit", _limit, 100),
        **edge,
    )
    if asked.errors:
        raise Invalid(asked.errors)
    if not schema.reveal and PHONE_FIELDS & found.equal.keys():
        raise Forbidden("filtering by phone number needs a token with the scope reveal")
    return found


def cursor(direction: str, sort: str, moment: datetime, key: UUID) -> str:
    """An opaque mark of a page's end; only `question` reads it."""
    text = json.dumps([direction, sort, moment.isoformat(), str(key)])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


class _Asked:
    """The parameters, and what was wrong with them."""

    def __init__(self, args: MultiDict[str, str]) -> None:
        self.args = args
        self.errors: dict[str, list[str]] = {}

    def one(self, name: str, read: Callable[[str], Any], default: Any) -> Any:
        values = self.args.getlist(name)
        if not values:
            return default
        if len(values) > 1:
            self.errors[name] = ["given more than once"]
            return default
        return self.read(name, read, values[0], default)

    def read(self, name: str, read: Callable[[str], Any], text: str, default: Any = None) -> Any:
        try:
            return read(text)
        except Odd as odd:
            self.errors.setdefault(name, []).append(str(odd))
            return default


def _equal(asked: _Asked, schema: RecordSchema, zone: Any) -> dict[str, list[Any]]:
    equal: dict[str, list[Any]] = {}
    for name, texts in asked.args.lists():
        if name in CONTROLS:
            continue
        field = schema.fields.get(name)
        if field is None:
            asked.errors[name] = [f"unknown; there are {', '.join([*schema.fields, *CONTROLS])}"]
            continue
        # Once: any of what the commas part. More than once: each whole, so that a value can hold a comma.
        values = texts[0].split(",") if len(texts) == 1 else texts
        read = partial(_value, name, field, zone)
        equal[name] = [asked.read(name, read, text) for text in values]
    return equal


def _value(name: str, field: fields.Field[Any], zone: Any, text: str) -> Any:
    if isinstance(field, Nested):
        raise Odd("cannot be compared")
    if name == "phone_number" and text.startswith(" "):
        text = f"+{text[1:]}"  # an unescaped plus
    for kind, read in _READERS.items():
        if isinstance(field, kind):
            return read(text, field, zone)
    return storable(text) or ""


def parse_moment(text: str, zone: Any) -> datetime:
    """A time with its offset, or local in `zone`; a bare date is its midnight."""
    try:
        moment = datetime.fromisoformat(_UNESCAPED_PLUS.sub(r"+\1", text.strip()))
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Odd("no time; use 2026-03-08, 2026-03-08T14:30:00 or 2026-03-08T14:30:00Z") from None


def _word(text: str, field: Word, _zone: Any) -> str:
    if text not in field.words:
        raise Odd(f"{text!r} is none of {', '.join(field.words)}")
    return text


def _number(text: str, _field: Any, _zone: Any) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= MAX_NUMBER):
        raise Odd(f"{text!r} is no whole number from 0 to {MAX_NUMBER}")
    return int(text)


def _flag(text: str, _field: Any, _zone: Any) -> bool:
    if text not in ("true", "false"):
        raise Odd(f"{text!r} is neither true nor false")
    return text == "true"


def _uuid(text: str, _field: Any, _zone: Any) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Odd(f"{text!r} is no UUID") from None


def _digest(text: str, _field: Any, _zone: Any) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise Odd(f"{text!r} is no SHA-256 in hex")
    return digest


_READERS: Mapping[type[fields.Field[Any]], Callable[[str, Any, Any], Any]] = {
    Moment: lambda text, _field, zone: parse_moment(text, zone),
    Word: _word,
    Number: _number,
    fields.Boolean: _flag,
    fields.UUID: _uuid,
    Digest: _digest,
}


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        raise Odd(f"{text!r} is no IANA time zone; use one like America/New_York") from None


def _sort(text: str, moment: str) -> str:
    order = text.removeprefix("+").removeprefix(" ")  # an unescaped plus is a space
    if order not in (moment, f"-{moment}"):
        raise Odd(f"{text!r} is neither {moment} nor -{moment}")
    return order


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_LIMIT):
        raise Odd(f"{text!r} is no number from 1 to {MAX_LIMIT}")
    return int(text)


def _count(text: str) -> str:
    if text not in COUNTS:
        raise Odd(f"{text!r} is none of {', '.join(COUNTS)}")
    return text


def _edge(text: str, sort: str) -> dict[str, Edge]:
    try:
        padded = text + "=" * (-len(text) % 4)
        direction, of_sort, at, key = json.loads(base64.b64decode(padded.encode(), b"-_", validate=True))
        moment = datetime.fromisoformat(at)
        if direction not in ("after", "before") or of_sort != sort or moment.tzinfo is None:
            raise ValueError
        return {direction: Edge(moment, UUID(key))}
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError, binascii.Error):
        raise Odd("not a cursor of this list in this order; take it from next or prev") from None
