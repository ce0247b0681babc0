"""Without the scope `reveal` phone numbers are masked, wherever they stand.

A field is masked by what it holds alone: an export works by columns and shows what a list does.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import phonenumbers

from app.exports.cells import HIDDEN, json_text
from app.exports.columns import Mask

PHONE_FIELDS = frozenset({"phone_number", "phone_number_raw"})
MASKED_WITHIN = frozenset({"extra", "headers", "query", "problems"})  # where phones may stand among other things

_PHONE_NAME = re.compile(
    # Each begins with a letter, so that the engine skips all others quickly.
    r"phone|msisdn|destination|caller|callee(?!_type)|mobile|ani(?<!\wani)\b|tel(?<!\wtel)\b|cell(?<!\wcell)|fax(?<!\wfax)"
)
_EMPTY = (None, "{}", "[]")
_NO_DIGITS = re.compile("[^0-9]+")
_DIGIT = re.compile(r"\d")
_ESCAPED = re.compile(r"%(0[9AaDd]|2[089BbDdEeFf]|3\d)")  # in a query: what phones are written with

_FEWEST_DIGITS, _MOST_DIGITS = 7, 15
_FULL = 10  # digits of a number that need not be valid
_LARGEST = 10**_MOST_DIGITS
# In one field, counted in characters to read: a body may hold 100,000 numbers, and the library takes long for each.
_MOST_WORK = 75_000
_TRYING, _ASKING = 10, 250  # groups of digits by their looks, and the phone library

_USUAL = r"\s().\-/\u2010-\u2015\u2212"
_ESCAPE = "%(?:0[9AaDd]|2[089BbDdEeFf])"
_BETWEEN = rf"(?:[{_USUAL}]++|{_ESCAPE}|(?![{_USUAL}])[\W_]){{0,3}}+"
# Each pattern begins with one class of characters, by which the engine skips all others, and then looks behind.
_CLOCK = r":[0-5]\d:[0-5]\d(?:[.,]\d{1,9})?"
_OFFSET = r"(?:Z|[+-][01]\d:?[0-5]\d)?"
_DATE = r"\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_DATE_TIME = rf"{_DATE}(?:[T ](?:[01]\d|2[0-3])(?:{_CLOCK}|:[0-5]\d){_OFFSET})?"
_TIME = rf"(?:(?<=[01])\d|(?<=2)[0-3]){_CLOCK}{_OFFSET}"
_MOMENT = rf"(?<=\d)(?<![\d+:.].)(?:{_DATE_TIME}|{_TIME})(?![\d:])"
_HEX = r"[\da-fA-F]"
_DIGEST = rf"(?<![\da-zA-Z].)(?:{_HEX}{{7}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}|{_HEX}{{31,}}+)(?![\da-zA-Z])"
_ADDRESS = r"(?<=\d)(?<![\d.].)\d{0,2}(?:\.\d{1,3}){3}:\d{1,5}(?!\d)"  # with its port, else no phone is like it
_NO_PHONE = re.compile(rf"{_HEX}(?:{_MOMENT}|{_DIGEST}|{_ADDRESS})")
_DIGIT_FIRST = rf"(?:(?<=\d)(?<!\d.)|(?<=[+(])\(?\d|(?<=%){_ESCAPE[1:]}\+?\(?\d)"
_NUMBER_LIKE = re.compile(rf"[\d+(%]{_DIGIT_FIRST}(?:{_BETWEEN}\d){{{_FEWEST_DIGITS - 1},}}+")
_WITHOUT_A_LOOK = re.compile(rf"\d[\W\d_]{{{_FEWEST_DIGITS - 2},}}\d")
_GROUP = re.compile(rf"{_ESCAPE}|(?P<plus>(?<!\d)\+)?\(?(?P<digits>\d+)")
_USUALLY_WRITTEN = re.compile(rf"[+\d{_USUAL}]+")

_DIGIT_RUN = re.compile(r"\d(?:[\W_]{0,3}\d){6,}")

Groups = Sequence[re.Match[str]]


class _Likeness(IntEnum):
    NONE = 0
    POSSIBLE = 1  # as many digits as numbers there have
    VALID = 2


def masked(record: dict[str, Any], region: str) -> dict[str, Any]:
    """The record with only the ends of phone numbers."""
    shown = dict(record)
    for name in PHONE_FIELDS & shown.keys():
        shown[name] = mask_e164(shown[name]) if name == "phone_number" else mask_text(shown[name])
    if shown.get("extra"):
        shown["extra"] = _Mask(region).within(shown["extra"])
    if shown.get("headers"):
        shown["headers"] = mask_headers(shown["headers"])
    if shown.get("query"):
        shown["query"] = _Mask(region).of_query(shown["query"])
    if shown.get("problems"):
        shown["problems"] = _Mask(region).problems(shown["problems"])
    return shown


def masks(region: str) -> dict[str, Mask]:
    """The same for texts of single fields, lists and objects being JSON; a field without a mask is shown whole."""
    return {
        "phone_number": mask_e164,
        "phone_number_raw": mask_text,
        "extra": lambda text: _Mask(region).of_json(text),
        "problems": lambda text: _Mask(region).of_problems(text),
        "query": lambda text: _Mask(region).of_query(text),
        "headers": lambda text: text if text in _EMPTY else json_text(mask_headers(json.loads(text or ""))),
    }


def mask_e164(number: str | None) -> str | None:
    """The first five and last four characters, `+1617•••1234`; of a number too short for that, the last four."""
    if number is None:
        return None
    return f"{number[:5]}{HIDDEN}{number[-4:]}" if len(number) > 9 else f"{HIDDEN}{number[-4:]}"


def mask_text(text: str | None) -> str | None:
    """Of a phone as sent only the last four digits, 0 to 9."""
    if text is None:
        return None
    last = text[-4:]
    if not (len(last) == 4 and last.isdigit() and last.isascii()):
        last = _NO_DIGITS.sub("", text)[-4:]
    return HIDDEN + last


def mask_headers(headers: Sequence[Sequence[str]]) -> list[list[str]]:
    """Of names and values; what hides in escapes, in a URL that refers, is shown decoded."""
    return [[_mask_escaped(name), _mask_escaped(value)] for name, value in headers]


def _mask_escaped(text: str) -> str:
    decoded = unquote(text)
    shown = mask_digits(decoded)
    return mask_digits(text) if shown == decoded else shown


def mask_digits(text: str) -> str:
    """Of each run of seven digits or more, with at most three characters between any two that are neither letter nor
    digit, the last four, whatever it means."""
    return _DIGIT_RUN.sub(lambda run: HIDDEN + "".join(filter(str.isdecimal, run[0]))[-4:], text)


def without_phones(text: str, region: str) -> str:
    """The text with only the last four digits of whatever in it looks like a phone."""
    shown: str = _Mask(region).within(text)
    return shown


class _Mask:
    """Hides phones in one field: all that is under a phone's name, elsewhere what looks like one.

    Where no work is left, whatever could be one is hidden without a look.
    """

    def __init__(self, region: str) -> None:
        self.region = region
        self.left = _MOST_WORK

    def of_json(self, text: str | None) -> str | None:
        return text if text in _EMPTY else json_text(self.within(json.loads(text or "")))

    def of_problems(self, text: str | None) -> str | None:
        return text if text in _EMPTY else json_text(self.problems(json.loads(text or "")))

    def of_query(self, text: str | None) -> str | None:
        """Of a URL: shown decoded as far as phones hide in escapes, or in spaces written as plus."""
        decoded = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text or "")
        shown = self.within(decoded)
        spaced = shown.replace("+", " ")
        if (masked := self.within(spaced)) != spaced:
            shown = masked
        return text if shown == decoded else shown

    def problems(self, problems: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self._problem(problem) for problem in problems]

    def _problem(self, problem: dict[str, Any]) -> dict[str, Any]:
        name, value = problem["field"], problem["value"]
        return problem | {"field": self.within(name), "value": self.within(value, _is_phones(name))}

    def within(self, value: Any, whole: bool = False) -> Any:
        """`whole`: what is under a phone's name and holds a digit is a phone, whatever it looks like."""
        if isinstance(value, str):
            return mask_text(value) if whole and _DIGIT.search(value) else self._text(value)
        if isinstance(value, list):
            return [self.within(item, whole) for item in value]
        if isinstance(value, dict):
            return self._object(value, whole)
        if _is_number(value):
            return mask_text(str(value)) if whole else self._number(value)
        return value

    def _object(self, value: dict[str, Any], whole: bool) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        alike: Counter[str] = Counter()
        for name, item in value.items():
            ends = free = self._text(name)
            while free in shown:  # two phones may end alike
                alike[ends] += 1
                free = f"{ends} ({alike[ends] + 1})"
            shown[free] = self.within(item, whole or _is_phones(name))
        return shown

    def _text(self, text: str) -> str:
        if len(text) < _FEWEST_DIGITS:
            return text
        self.left -= len(text)
        if self.left <= 0:
            return _WITHOUT_A_LOOK.sub(HIDDEN, text)
        shown, upto = "", 0
        for start, end in self._phones(text):
            shown += f"{text[upto:start]}{mask_text(text[start:end])}"
            upto = end
        return shown + (text[upto:] if self.left > 0 else _WITHOUT_A_LOOK.sub(HIDDEN, text[upto:]))

    def _number(self, value: float) -> Any:
        if not 10 ** (_FEWEST_DIGITS - 1) <= abs(value) < _LARGEST:
            return value
        if self.left <= 0:
            return HIDDEN
        digits = f"{abs(value):.0f}"
        return mask_text(digits) if self._ask(digits) is _Likeness.VALID else value

    def _phones(self, text: str) -> Iterator[tuple[int, int]]:
        """Where phones begin and end, as far as there is work left."""
        upto = 0
        for start, end in [*(match.span() for match in _NO_PHONE.finditer(text)), (len(text), len(text))]:
            for run in _NUMBER_LIKE.finditer(text, upto, start):
                yield from self._phones_among(run)
                if self.left <= 0:
                    return
            upto = end

    def _phones_among(self, run: re.Match[str]) -> list[tuple[int, int]]:
        """Groups of digits, some of which may be a phone. Two that overlap are one, lest a part of one be shown."""
        found: list[tuple[int, int]] = []
        groups = [one for one in _GROUP.finditer(run.string, run.start(), run.end()) if one["digits"]]
        for first, group in enumerate(groups):
            hidden = found[-1][1] if found else 0
            end = self._end(groups[first : first + _MOST_DIGITS], hidden)
            if self.left <= 0:
                break
            if end and group.start() < hidden:
                found[-1] = (found[-1][0], end)
            elif end:
                found.append((group.start(), end))
        return found

    def _end(self, groups: Groups, hidden: int) -> int | None:
        """Where the longest phone ends that begins with the first group, if beyond what is hidden already."""
        ends = (last for last in _ends(groups) if groups[last].end() > hidden)
        return next((groups[last].end() for last in ends if self._is_phone(groups[: last + 1])), None)

    def _is_phone(self, groups: Groups) -> bool:
        self.left -= _TRYING
        number = (groups[0]["plus"] or "") + "".join(group["digits"] for group in groups)
        if number.startswith(("+", "00")) or _is_in_shape(groups):
            return self._ask(number) is not _Likeness.NONE
        written = groups[0].string[groups[0].start() : groups[-1].end()]
        return bool(_USUALLY_WRITTEN.fullmatch(written)) and self._ask(number) is _Likeness.VALID

    def _ask(self, number: str) -> _Likeness:
        self.left -= _ASKING
        return _likeness(number, self.region)


@lru_cache(maxsize=4096)  # pages and streams show the same records again
def _likeness(number: str, region: str) -> _Likeness:
    """Of digits, perhaps behind a plus. Some that are no more than possible are times, dates or ids."""
    likeness = _Likeness.NONE
    for reading in _readings(number):
        likeness = max(likeness, _likeness_as_written(reading, region))
        if likeness is _Likeness.VALID:
            return likeness
    no_more = not number.startswith("+") and (len(number) < _FULL or _is_time(number))
    return _Likeness.NONE if no_more else likeness


def _readings(number: str) -> list[str]:
    """A number with its country's code may lack the plus, or have 00 for it."""
    if number.startswith("00"):
        return [f"+{number[2:]}"]
    return [number] if number.startswith("+") or len(number) < _FULL else [number, f"+{number}"]


def _likeness_as_written(number: str, region: str) -> _Likeness:
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return _Likeness.NONE
    if phonenumbers.is_valid_number(parsed):
        return _Likeness.VALID
    reason = phonenumbers.is_possible_number_with_reason(parsed)
    return _Likeness.POSSIBLE if reason == phonenumbers.ValidationResult.IS_POSSIBLE else _Likeness.NONE


def _is_time(digits: str) -> bool:
    """Unix seconds from 2001 to 2033. Later ones look like numbers of North America, none of which begins with 1."""
    return len(digits) == _FULL and digits.startswith("1")


def _is_in_shape(groups: Groups) -> bool:
    """Whether groups are as long as a phone's, where those of dates, sums and addresses are shorter: three digits or
    more, the last four; before them perhaps the codes of country and area."""
    lengths = [len(group["digits"]) for group in groups]
    short = sum(length < 3 for length in lengths)
    return lengths[-1] >= 4 and short <= 2 and all(length >= 3 for length in lengths[short:])


def _ends(groups: Groups) -> list[int]:
    """Of the groups that begin with the first one and together have as many digits as phones, the longest first."""
    found, digits = [], 0
    for last, group in enumerate(groups):
        digits += len(group["digits"])
        if digits > _MOST_DIGITS:
            break
        if digits >= _FEWEST_DIGITS:
            found.append(last)
    return found[::-1]


def _is_phones(name: str) -> bool:
    return _PHONE_NAME.search(name.lower()) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
