"""Column types with the same meaning on every engine."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

# Compared by code point everywhere: SQLite does so by itself, PostgreSQL under the collation "C".
CodePointText = Text().with_variant(Text(collation="C"), "postgresql")


class Word(TypeDecorator[str]):
    """A member of an enumeration."""

    impl = String(20)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(String(20, collation="C") if dialect.name == "postgresql" else String(20))

    def bind_processor(self, dialect: Dialect) -> Any:
        return _plain


def _plain(word: str | None) -> str | None:
    """Convert to a plain string, since drivers would look up an adapter for each enumeration member."""
    return None if word is None else str.__str__(word)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time: timestamptz on PostgreSQL, sortable UTC text on SQLite (`2026-03-08 14:30:00.000000`)."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=True) if dialect.name == "postgresql" else String(26))

    def bind_processor(self, dialect: Dialect) -> Any:
        return None if dialect.name == "postgresql" else sortable

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if isinstance(value, str):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        return value.astimezone(UTC) if value else None


def sortable(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(" ", "microseconds")[:26]


_EMPTY = {dict: "{}", list: "[]", tuple: "[]"}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_json(value: Any) -> str:
    """Serialise a value. Empty values, which are most, skip the encoder."""
    return _encode(value) if value or not isinstance(value, dict | list | tuple) else _EMPTY[type(value)]


class JsonText(TypeDecorator[Any]):
    """JSON stored as text: preserves the order of keys and integers of any size, and is the same on every engine."""

    impl = Text
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Any:
        return to_json

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return json.loads(value) if value is not None else None
