"""Parsers of single values as Plum sends them: numbers, times, phones, text. They raise `BadValue`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, DecimalException
from email.utils import parsedate_to_datetime
from functools import lru_cache

import phonenumbers

from app.model import Json

MAX_NUMBER = 2**31 - 1
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
MAX_TIME_LENGTH = 998  # the longest line of RFC 2822

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL's text type accepts neither
_BEFORE_NUMBER = re.compile(r"[\s'\"‘’“”]*(?:tel:)?[\s'\"‘’“”]*", re.I)
_DATE = re.compile(  # RFC 2822, section 3.3, with the obsolete year and zone names of 4.3
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun),\s*)?\d{1,2}\s+"
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\s+(?P<year>\d{2,4})\s+"
    r"\d{2}:\d{2}(?::\d{2})?\s+(?P<zone>[+-]\d{4}|[a-z]+)(?:\s*\([^()]*\))?",
    re.I | re.A,
)

# The usual form of North American numbers. The phone library gives the same result (a test compares both), but it
# takes a fifth of the time that reading a whole callback takes.
_NORTH_AMERICAN = re.compile(r"1?([2-9][0-9]{9})")


class BadValue(ValueError):
    """A value that does not parse; the text is the problem's code."""


class Written(float):
    """A JSON number whose literal differs from Python's; as text it is the literal that was sent."""

    literal: str

    def __new__(cls, literal: str) -> Written:
        made = super().__new__(cls, literal)
        made.literal = literal
        return made

    def __str__(self) -> str:
        return self.literal


def exact(value: Json) -> Json:
    """Return the value, or its literal if the number would be shown rounded."""
    if not isinstance(value, Written):
        return value
    try:
        return value if Decimal(value.literal) == Decimal(repr(value)) else value.literal
    except DecimalException:
        return value.literal


def number(value: Json) -> int | None:
    """Parse a count or seconds: trimmed ASCII digits or an integer, 0 to 2³¹−1. Raises `BadValue`."""
    digits = value.strip() if isinstance(value, str) else value
    if digits is None or digits == "":
        return None
    if isinstance(digits, str):
        digits = _digits(digits)
    if type(digits) is not int or not 0 <= digits <= MAX_NUMBER:
        raise BadValue("not_a_number")
    return digits


def time(value: Json) -> datetime | None:
    """Parse Unix seconds (a number or digits) or RFC 2822 text; empty values and 0 are None. Raises `BadValue`."""
    sent = value.strip() if isinstance(value, str) else value
    if sent is None or sent == "":
        return None
    digits = _digits(sent) if isinstance(sent, str) else None
    seconds: Json = sent if digits is None else digits
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        if seconds == 0:
            return None
        moment = _from_unix(seconds)
    else:
        moment = _rfc2822(sent) if isinstance(sent, str) and len(sent) <= MAX_TIME_LENGTH else None
    if moment is None or not EARLIEST <= moment <= LATEST:
        raise BadValue("not_a_time")
    return moment


def phone_parts(e164: str) -> tuple[str, str]:
    """Return the digits of the country code and those of the national number, which all spellings have in common."""
    parsed = phonenumbers.parse(e164)
    return str(parsed.country_code), phonenumbers.national_significant_number(parsed)


def region_code(region: str) -> str:
    """Return the digits of the region's country code."""
    return str(phonenumbers.country_code_for_region(region))


def phone(value: Json, region: str) -> str | None:
    """Return a dialled number as E.164: `6175551234`, `tel:+16175551234;ani=…;postd=2`, `"'6173720293'"`.

    Raises `BadValue` if it is not a full number: local only, too short or long, junk.
    """
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None  # empty, or not text, for which another problem is noted
    text = str(value)
    if region == "US" and (usual := _NORTH_AMERICAN.fullmatch(text)):
        return f"+1{usual[1]}"
    before = _BEFORE_NUMBER.match(text)
    start = before.end() if before else 0
    dialled = text[start:].partition(";")[0].rstrip(" \t\r\n'\"‘’“”")
    # A sender that forgets to escape +1617… in a urlencoded body delivers " 1617…".
    if text[:start].strip("'\"‘’“”") != text[:start].strip("'\"‘’“” \t\r\n"):
        international = _parsed(f"+{dialled}", region)
        if international and phonenumbers.is_valid_number(international):
            return _e164(international)
    parsed = _parsed(dialled, region)
    if not parsed or phonenumbers.is_possible_number_with_reason(parsed) != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise BadValue("not_a_phone_number")
    return _e164(parsed)


def storable(text: str | None) -> str | None:
    """Replace NUL and lone surrogates, which PostgreSQL's text type refuses; empty text is None."""
    if not text or (text.isascii() and "\x00" not in text):
        return text or None
    return _UNSTORABLE.sub("\ufffd", text)


def clean(value: Json) -> Json:
    """Make every text and name within the value storable."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, Mapping):
        cleaned: dict[str, Json] = {}
        repetitions: Counter[str] = Counter()  # of names that differ only in characters that cannot be stored
        for name, item in value.items():
            unique = storable_name = clean(name)
            while unique in cleaned:
                repetitions[storable_name] += 1
                unique = storable_name + "\ufffd" * repetitions[storable_name]
            cleaned[unique] = clean(item)
        return cleaned
    return value


def _digits(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    return int(text.lstrip("0")[:20] or "0")  # 20 digits exceed every limit already


def _from_unix(seconds: float) -> datetime | None:
    if not EARLIEST.timestamp() <= seconds <= LATEST.timestamp():
        return None
    return datetime.fromtimestamp(seconds, UTC)


@lru_cache(maxsize=4096)  # calls of one campaign end within the same seconds
def _rfc2822(text: str) -> datetime | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    try:
        moment = parsedate_to_datetime(
            f"{text[: match.start('year')]}{_year(match['year'])}{text[match.end('year') :]}"
        )
        if moment.tzinfo is None:  # Python's result for -0000 and for an unknown zone
            return moment.replace(tzinfo=UTC) if match["zone"] == "-0000" else None
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _year(digits: str) -> str:
    """Return the year as RFC 2822 defines it: Python reads 0001 as 2001 and 55 as 2055."""
    if len(digits) == 2:
        return f"{'20' if digits < '50' else '19'}{digits}"
    if int(digits) < 100:
        raise ValueError("a year before 100")
    return digits


def _parsed(text: str, region: str) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None


def _e164(parsed: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
