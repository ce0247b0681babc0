"""The texts of cells in CSV files, and JSON on one line."""

from __future__ import annotations

import json

# Spreadsheets read a cell with such a beginning as a formula, and +16175551234 as a number without its plus.
GUARDED = ("=", "+", "-", "@", "\t", "\r")
GUARD = "'"
HIDDEN = "•••"  # replaces the masked part of a phone number

# Some parsers read these characters as line ends. In JSON they occur only within texts.
LINE_ENDS = {"\x85": r"\u0085", "\u2028": r"\u2028", "\u2029": r"\u2029"}

json_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def one_line(json_lines: str) -> str:
    """Escape characters at which some parsers would split a line."""
    for end, escape in LINE_ENDS.items():
        json_lines = json_lines.replace(end, escape)
    return json_lines


def guarded(text: str) -> str:
    """Prefix the text if a spreadsheet would read it as a formula."""
    return GUARD + text if text.startswith(GUARDED) else text


def quoted(text: str) -> str:
    """Quote the text if RFC 4180 requires it, or if it is empty, since an unquoted empty cell is null."""
    if not text or '"' in text or "," in text or "\r" in text or "\n" in text:
        return '"' + text.replace('"', '""') + '"'
    return text
