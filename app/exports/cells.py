"""What a cell of a text table holds, for whole columns at once."""

from __future__ import annotations

import json
from collections.abc import Sequence

from app.exports.columns import Kind, Texts

# Spreadsheets read a cell that begins so as a formula, and +16175551234 as a number without its plus.
GUARDED = ("=", "+", "-", "@", "\t", "\r")
GUARD = "'"
HIDDEN = "•••"  # stands for what is left out of a phone number
_QUOTED = ('"', ",", "\r", "\n")
_BETWEEN = "\0"  # which no text has

# Some readers take these for the end of a line. In JSON they stand only within texts.
_LINE_ENDS = {"\x85": r"\u0085", "\u2028": r"\u2028", "\u2029": r"\u2029"}

json_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def one_line(json_lines: str) -> str:
    """JSON lines that no reader splits elsewhere than at their ends."""
    for end, escape in _LINE_ENDS.items():
        json_lines = json_lines.replace(end, escape)
    return json_lines


def cells(texts: Texts, kind: Kind, raw: bool) -> Sequence[str]:
    """The values as they stand in CSV; null is empty. `raw` leaves out the guard."""
    found = ["" if text is None else text for text in texts]
    if kind is Kind.JSON:
        return [quoted(text) if '"' in text or "," in text else text for text in found]
    if kind is not Kind.TEXT:
        return found
    joined = _BETWEEN + _BETWEEN.join(found)
    if not raw and any(_BETWEEN + first in joined for first in GUARDED):
        found = [GUARD + text if text.startswith(GUARDED) else text for text in found]
    return [quoted(text) for text in found] if any(one in joined for one in _QUOTED) else found


def quoted(text: str) -> str:
    """In quotes where RFC 4180 needs them."""
    if '"' in text or "," in text or "\r" in text or "\n" in text:
        return '"' + text.replace('"', '""') + '"'
    return text
