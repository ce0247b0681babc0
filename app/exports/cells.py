"""What a cell of a text table holds. The store's own formatting follows these very rules; a test compares them."""

from __future__ import annotations

import json
from typing import Any

from app.exports.columns import Kind

# Spreadsheets read a cell that begins so as a formula, and +16175551234 as a number without its plus.
GUARDED = ("=", "+", "-", "@", "\t", "\r")
GUARD = "'"

json_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def cell(value: Any, kind: Kind, raw: bool) -> str:
    """The value as text; null is empty. `raw` leaves out the guard."""
    if value is None:
        return ""
    if kind is Kind.TEXT:
        return guarded(value) if not raw else str(value)
    if kind is Kind.FLAG:
        return "true" if value else "false"
    return json_text(value) if kind is Kind.JSON else str(value)


def guarded(text: str) -> str:
    """The text so that no spreadsheet runs it."""
    return GUARD + text if text.startswith(GUARDED) else text
