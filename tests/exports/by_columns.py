"""Records as exports take them: of each column the texts of its values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from app.exports.columns import Batch, Column


def by_columns(records: Sequence[dict[str, Any]], columns: Sequence[Column]) -> Batch:
    return [[_text(record[name]) for record in records] for name, _ in columns]


def _text(value: Any) -> str | None:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value if value is None or isinstance(value, str) else str(value).lower()
