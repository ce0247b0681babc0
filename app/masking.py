"""Without the scope `reveal` phone numbers are masked, wherever they stand: whatever is long enough to be one.

A field is masked by what it holds alone: an export works by columns and shows what a list does.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote

from app.exports.cells import HIDDEN, json_text
from app.exports.columns import Mask
from app.values import storable

PHONE_FIELDS = frozenset({"phone_number", "phone_number_raw"})
MASKED_WITHIN = frozenset(
    {"extra", "headers", "query", "problems", "metadata"}
)  # where phones may stand among other things

# Neither repetition gives back what it took, so that hostile texts take no longer than others.
_RUN = re.compile(r"\d(?:[\W_]{0,3}+\d){6,}+")
_HOLDS_LAST_FOUR = 4 + 3 * 3  # characters, of which three may stand between any two digits
_NO_DIGITS = re.compile("[^0-9]+")
# A cursor holds the values of the row that it marks, and whatever is looked for within texts may be digits.
_LEFT_OUT = re.compile(rf"({'|'.join(sorted(PHONE_FIELDS))}|query)(__\w+)?|cursor|q|\w+__contains")
# Their values were read as UUIDs, hex or times.
_NO_PHONE = re.compile(r"(id|outcome_id|sha256|since|until|\w+_at)(__\w+)?")
_EMPTY = ("{}", "[]")


def masked(record: dict[str, Any]) -> dict[str, Any]:
    """The record as who may not see phones sees it."""
    shown = {name: mask(record[name]) for name, mask in _MASKS.items() if record.get(name) is not None}
    return record | shown


def masks() -> dict[str, Mask]:
    """The same for texts of single fields, lists and objects being JSON; a field without a mask is shown whole."""
    return {name: partial(_mask_stored, mask, name in _JSON) for name, mask in _MASKS.items()}


def mask_digits(text: str) -> str:
    """Of each run of seven digits or more, with at most three characters between any two that are neither letter nor
    digit, the last four, whatever it means."""
    return _RUN.sub(_last_four, text)


def mask_e164(number: str) -> str:
    """The first five and last four characters, `+1617•••1234`; of a number too short for that, the last four."""
    return f"{number[:5]}{HIDDEN}{number[-4:]}" if len(number) > 9 else f"{HIDDEN}{number[-4:]}"


def mask_sent(phone: str) -> str:
    """Of a phone as sent only the last four digits, 0 to 9."""
    return HIDDEN + _NO_DIGITS.sub("", phone)[-4:]


def mask_query(query: str) -> str:
    """Shown decoded where something is hidden: digits may be written as escapes."""
    decoded = unquote(query)
    shown = mask_digits(decoded)
    return query if shown == decoded else shown


def mask_headers(headers: Sequence[Sequence[str]]) -> list[list[str]]:
    """Of names and values, each of which may be a URL that refers, or hold one."""
    return [[mask_digits(mask_query(text)) for text in header] for header in headers]


def mask_json(value: Any) -> Any:
    """Of each text, name and number by itself; a number of which digits are hidden becomes a text."""
    if isinstance(value, str):
        return mask_digits(value)
    if isinstance(value, list):
        return [mask_json(item) for item in value]
    if isinstance(value, dict):
        return _mask_object(value)
    written = json_text(value)  # a number's digits; true, false and null have none
    shown = mask_digits(written)
    return value if shown == written else shown


def mask_parameters(parameters: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """A question's parameters without what may be a phone number, or hold one."""
    return [(name, _mask_parameter(name, value)) for name, value in parameters]


def _mask_parameter(name: str, value: str) -> str:
    if _LEFT_OUT.fullmatch(name):
        return HIDDEN
    text = storable(value) or ""
    return text if _NO_PHONE.fullmatch(name) else mask_digits(mask_query(text))


def _mask_object(value: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    alike: Counter[str] = Counter()
    for name, item in value.items():
        ends = free = mask_digits(name)
        while free in shown:  # two phones may end alike
            alike[ends] += 1
            free = f"{ends} ({alike[ends] + 1})"
        shown[free] = mask_json(item)
    return shown


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
