"""Masking of phone numbers for tokens without the scope `reveal`: every run of digits that is long enough is masked.

The mask of a field depends on that field's value only, so an export, which works by columns, shows what a list shows.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any
from urllib.parse import unquote

from app.exports.cells import HIDDEN, json_text
from app.exports.columns import Mask
from app.values import storable

PHONE_FIELDS = frozenset({"phone_number", "phone_number_raw"})
# Fields that may contain phone numbers among other text.
MASKED_WITHIN = frozenset({"extra", "headers", "query", "problems", "metadata"})

# Both repetitions are possessive: without backtracking the time is linear in the text's length.
_RUN = r"\d(?:[\W_%s]{0,3}+\d){6,}+"
_ASCII_RUN = re.compile(_RUN % "")
_NUMERALS_END = 0x20000  # the planes of Unicode beyond have no numerals that are not letters
_HOLDS_LAST_FOUR = 4 + 3 * 3  # characters: four digits, and at most three others between any two of them
_NO_DIGITS = re.compile("[^0-9]+")
# Parameters that are masked whole: a cursor contains a row's values, and a search text may be part of a number.
_LEFT_OUT = re.compile(rf"({'|'.join(sorted(PHONE_FIELDS))}|query)(__\w+)?|cursor|q|\w+__contains")
# Parameters whose values are UUIDs, hex or times.
_NO_PHONE = re.compile(r"(id|outcome_id|sha256|since|until|\w+_at)(__\w+)?")
_EMPTY = ("{}", "[]")


def masked(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with its phone numbers masked."""
    shown = {name: mask(record[name]) for name, mask in _MASKS.items() if record.get(name) is not None}
    return record | shown


def masks() -> dict[str, Mask]:
    """Return the masks of single fields as texts, where lists and objects are JSON. Other fields need no mask."""
    return {name: partial(_mask_stored, mask, name in _JSON) for name, mask in _MASKS.items()}


def mask_digits(text: str) -> str:
    """Mask all but the last four digits of each run of seven or more digits.

    Between any two digits of a run there may be up to three characters that are neither letters nor digits.
    """
    return (_ASCII_RUN if text.isascii() else _any_run()).sub(_last_four, text)


def mask_e164(number: str) -> str:
    """Keep the first five and last four characters, `+1617•••1234`; of a shorter number only the last four."""
    return f"{number[:5]}{HIDDEN}{number[-4:]}" if len(number) > 9 else f"{HIDDEN}{number[-4:]}"


def mask_sent(phone: str) -> str:
    """Keep only the last four digits of a phone number as sent."""
    return HIDDEN + _NO_DIGITS.sub("", phone)[-4:]


def mask_query(query: str) -> str:
    """Mask the percent-decoded query, since digits may be escaped. Without a match the query stays as sent."""
    decoded = unquote(query)
    shown = mask_digits(decoded)
    return query if shown == decoded else shown


def mask_headers(headers: Sequence[Sequence[str]]) -> list[list[str]]:
    """Mask names and values like queries, since each may contain a URL."""
    return [[mask_digits(mask_query(text)) for text in header] for header in headers]


def mask_json(value: Any) -> Any:
    """Mask each text, name and number by itself; a masked number becomes a text."""
    if isinstance(value, str):
        return mask_digits(value)
    if isinstance(value, list):
        return [mask_json(item) for item in value]
    if isinstance(value, dict):
        return _mask_object(value)
    text = json_text(value)  # a number's digits; true, false and null have none
    shown = mask_digits(text)
    return value if shown == text else shown


def mask_parameters(parameters: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Mask the parameters of a query whose values may contain phone numbers."""
    return [(name, _mask_parameter(name, value)) for name, value in parameters]


def _mask_parameter(name: str, value: str) -> str:
    if _LEFT_OUT.fullmatch(name):
        return HIDDEN
    text = storable(value) or ""
    return text if _NO_PHONE.fullmatch(name) else mask_digits(mask_query(text))


def _mask_object(value: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    repetitions: Counter[str] = Counter()
    for name, item in value.items():
        unique = masked_name = mask_digits(name)
        while unique in shown:  # two numbers may have the same last four digits
            repetitions[masked_name] += 1
            unique = f"{masked_name} ({repetitions[masked_name] + 1})"
        shown[unique] = mask_json(item)
    return shown


@cache
def _any_run() -> re.Pattern[str]:
    """The pattern for any text. Fractions and Roman numerals match `\\w`, but are neither letters nor digits."""
    return re.compile(_RUN % "".join(filter(_is_numeral, map(chr, range(0x80, _NUMERALS_END)))))


def _is_numeral(character: str) -> bool:
    """True for a fraction, a Roman numeral, and other numbers that are neither letters nor digits."""
    return character.isnumeric() and not character.isalpha() and not character.isdecimal()


def _last_four(run: re.Match[str]) -> str:
    return HIDDEN + "".join(filter(str.isdecimal, run[0][-_HOLDS_LAST_FOUR:]))[-4:]


def _mask_stored(mask: Callable[[Any], Any], is_json: bool, text: str | None) -> str | None:
    if text is None or (is_json and text in _EMPTY):
        return text
    shown: str = json_text(mask(json.loads(text))) if is_json else mask(text)
    return shown


_JSON = {"extra", "problems", "headers", "metadata"}
_MASKS: dict[str, Callable[[Any], Any]] = {
    "phone_number": mask_e164,
    "phone_number_raw": mask_sent,
    "extra": mask_json,
    "problems": mask_json,
    "metadata": mask_json,
    "query": mask_query,
    "headers": mask_headers,
}
