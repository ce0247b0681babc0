"""Objects whose names may stand twice, since both values are evidence; and the same as plain JSON values."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from app.model import Json

MAX_DEPTH = 64

Twice = Callable[[str, list[Json]], None]


class Pairs(list[tuple[str, Any]]):
    """An object as sent: names in order, repeated ones too."""


def plain(value: Json, path: str = "", twice: Twice | None = None) -> Json:
    """The value with dicts for `Pairs`; a name given twice with different values holds the list of them.

    `twice` is told of each such name, as it stands below `path`, and its values.
    """
    if isinstance(value, Pairs):
        given: dict[str, list[Json]] = {}
        for name, item in value:
            given.setdefault(name, []).append(plain(item, f"{path}.{name}", twice))
        return {name: _one_or_all(f"{path}.{name}", items, twice) for name, items in given.items()}
    if isinstance(value, list):
        return [plain(item, f"{path}[{at}]", twice) for at, item in enumerate(value)]
    return value


def distinct(values: list[Json]) -> list[Json]:
    """Each different value once, in order; 1 and true differ, as they do in JSON."""
    if len(values) == 1:
        return values
    by_text: dict[str, Json] = {}
    for value in values:
        by_text.setdefault(json.dumps(value, sort_keys=True), value)
    return list(by_text.values())


def _one_or_all(path: str, values: list[Json], twice: Twice | None) -> Json:
    different = distinct(values)
    if len(different) == 1:
        return different[0]
    if twice:
        twice(path, different)
    return different
