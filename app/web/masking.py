"""Without the scope `reveal` phone numbers are masked, wherever they stand."""

from __future__ import annotations

import json
import re
from typing import Any

import phonenumbers

from app.exports.cells import HIDDEN, json_text
from app.exports.columns import Mask

PHONE_FIELDS = frozenset({"phone_number", "phone_number_raw"})
MASKED_WITHIN = frozenset({"extra", "query", "problems"})  # where phones may stand among other things

_PHONE_NAME = re.compile(r"phone|\bani\b|msisdn|destination|caller|callee|\btel\b|mobile|\bcell|\bfax", re.I)
_BEYOND_PHONES = 10**18
_EMPTY = (None, "{}", "[]")
_NO_DIGITS = re.compile("[^0-9]+")
_NUMBER_LIKE = re.compile(r"\+?\(?\d[\d\s().\-/\u2010-\u2015\u2212]{5,}\d")
_GROUP = re.compile(r"\+?\d+")
_PHONE_DIGITS = range(7, 16)
_MOST_TRIES = 200  # to find phones among groups of digits
_ESCAPED = re.compile(r"%(0[9AaDd]|2[089BbDdEeFf]|3\d)")  # in a query: what phones are written with


def masked(record: dict[str, Any], region: str) -> dict[str, Any]:
    """The record with only the ends of phone numbers."""
    mask = _Mask(region)
    shown = dict(record)
    for name in PHONE_FIELDS & shown.keys():
        shown[name] = mask_e164(shown[name]) if name == "phone_number" else mask_text(shown[name])
    if "extra" in shown:
        shown["extra"] = mask.within(shown["extra"])
    if "query" in shown:
        shown["query"] = mask.of_query(shown["query"])
    if "problems" in shown:
        shown["problems"] = [mask.problem(problem) for problem in shown["problems"]]
    return shown


def masks(region: str) -> dict[str, Mask]:
    """The same for texts of single fields, lists and objects being JSON; a field without a mask is shown whole."""
    mask = _Mask(region)
    return {
        "phone_number": mask_e164,
        "phone_number_raw": mask_text,
        "extra": mask.of_json,
        "problems": mask.of_problems,
        "query": mask.of_query,
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


def without_phones(text: str, region: str) -> str:
    """The text with only the last four digits of whatever in it looks like a phone."""
    shown: str = _Mask(region).within(text)
    return shown


class _Mask:
    """Hides phones wherever they stand: all that is under a phone's name, elsewhere what looks like one."""

    def __init__(self, region: str) -> None:
        self.region = region

    def of_json(self, text: str | None) -> str | None:
        return text if text in _EMPTY else json_text(self.within(json.loads(text or "")))

    def of_problems(self, text: str | None) -> str | None:
        return text if text in _EMPTY else json_text([self.problem(one) for one in json.loads(text or "")])

    def of_query(self, text: str | None) -> str | None:
        """Of a URL: shown decoded as far as phones hide in escapes, or in spaces written as plus."""
        decoded = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text or "")
        shown = self.within(decoded)
        spaced = shown.replace("+", " ")
        if (masked := self.within(spaced)) != spaced:
            shown = masked
        return text if shown == decoded else shown

    def problem(self, problem: dict[str, Any]) -> dict[str, Any]:
        name, value = problem["field"], problem["value"]
        return problem | {"field": self.within(name), "value": self.under(name, value)}

    def under(self, name: str, value: Any) -> Any:
        return self._whole(value) if _PHONE_NAME.search(name) else self.within(value)

    def within(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.within(item) for item in value]
        if isinstance(value, dict):
            return {self.within(name): self.under(name, item) for name, item in value.items()}
        if isinstance(value, str):
            return _NUMBER_LIKE.sub(self._if_phone, value)
        if _is_number(value) and abs(value) < _BEYOND_PHONES and self._looks_like_phone(f"{value:.0f}"):
            return mask_text(f"{value:.0f}")
        return value

    def _whole(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._whole(item) for item in value]
        if isinstance(value, dict):
            return {mask_text(name): self._whole(item) for name, item in value.items()}
        return mask_text(str(value)) if isinstance(value, str) or _is_number(value) else value

    def _if_phone(self, match: re.Match[str]) -> str:
        return mask_text(match[0]) or "" if self._looks_like_phone(match[0]) else self._among(match[0])

    def _among(self, text: str) -> str:
        """Groups of digits, some of which may be a phone; what takes long to tell is hidden."""
        groups = list(_GROUP.finditer(text))
        shown, upto, first, tries = "", 0, 0, 0
        while first < len(groups):
            for last in _ends(groups, first):
                tries += 1
                if tries > _MOST_TRIES:
                    return f"{shown}{mask_text(text[upto:])}"
                phone = text[groups[first].start() : groups[last].end()]
                if self._looks_like_phone(phone):
                    shown += f"{text[upto : groups[first].start()]}{mask_text(phone)}"
                    upto, first = groups[last].end(), last
                    break
            first += 1
        return shown + text[upto:]

    def _looks_like_phone(self, text: str) -> bool:
        try:
            return phonenumbers.is_valid_number(phonenumbers.parse(text, self.region))
        except phonenumbers.NumberParseException:
            return False


def _ends(groups: list[re.Match[str]], first: int) -> list[int]:
    """Of the groups that begin with the first one and together have as many digits as phones, the longest first."""
    found, digits = [], 0
    for last in range(first, len(groups)):
        digits += len(groups[last][0].removeprefix("+"))
        if digits >= _PHONE_DIGITS.stop:
            break
        if digits in _PHONE_DIGITS:
            found.append(last)
    return found[::-1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
