"""What a cell of a text table holds."""

from __future__ import annotations

import json

# Spreadsheets read a cell that begins so as a formula, and +16175551234 as a number without its plus.
GUARDED = ("=", "+", "-", "@", "\t", "\r")
GUARD = "'"
HIDDEN = "•••"  # stands for what is left out of a phone number

# Some readers take these for the end of a line. In JSON they stand only within texts.
LINE_ENDS = {"\x85": r"\u0085", "\u2028": r"\u2028", "\u2029": r"\u2029"}

json_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def one_line(json_lines: str) -> str:
    """JSON lines that no reader splits elsewhere than at their ends."""
    for end, escape in LINE_ENDS.items():
        json_lines = json_lines.replace(end, escape)
    return json_lines


def guarded(text: str) -> str:
    """The text so that no spreadsheet takes it for a formula."""
    return GUARD + text if text.startswith(GUARDED) else text


def quoted(text: str) -> str:
    """In quotes where RFC 4180 needs them, or where it would be taken for null."""
    if not text or '"' in text or "," in text or "\r" in text or "\n" in text:
        return '"' + text.replace('"', '""') + '"'
    return text
