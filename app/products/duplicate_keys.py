"""Objects with repeated names, since each value is evidence; their conversion to plain JSON, and a limit on how many
values are parsed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence
from typing import Any

from app.model import Json
from app.values import exact

MAX_DEPTH = 64
MAX_VALUES = 2_000  # values of one body that are parsed: a call has some dozens, and each costs time
MORE = "(more)"  # the field that keeps a body with more values whole, as one text

Twice = Callable[[str, list[Json]], None]


class Pairs(list[tuple[str, Any]]):
    """An object as sent: all names in order, including repeated ones."""


class Surplus(int):
    """The number of fields or items beyond those that are parsed."""


def limit_values(pairs: Pairs, names: Container[str], lists: Container[str]) -> Pairs:
    """Return at most `MAX_VALUES` of the pairs' values.

    The first pair of each known name stays, wherever it is. Lists named in `lists` stay whole: their parser limits
    them.
    """
    left, beyond = MAX_VALUES, 0
    seen: set[str] = set()
    accepted = Pairs()
    for name, value in pairs:
        folded = name.casefold()
        is_list = isinstance(value, list)
        size = _size(value, left) if is_list else 1
        if size <= left:
            left -= size
        elif folded in seen or folded not in names or (is_list and folded not in lists):
            beyond += value if isinstance(value, Surplus) else 1
            continue
        seen.add(folded)
        accepted.append((name, value))
    return Pairs([*accepted, (MORE, Surplus(beyond))]) if beyond else accepted


def count_fitting(items: Sequence[Json]) -> int:
    """Return how many of the items, from the first, are parsed."""
    left = MAX_VALUES
    for index, item in enumerate(items):
        left -= _size(item, left)
        if left < 0:
            return index
    return len(items)


def _size(value: Json, most: int) -> int:
    """Count the value and all values within it; counting stops once there are more than `most`."""
    size, stack = 0, [value]
    while stack and size <= most:
        current = stack.pop()
        size += 1
        if isinstance(current, Pairs):
            stack += [item for _, item in current]
        elif isinstance(current, list):
            stack += current
    return size


def to_plain(value: Json, path: str = "", twice: Twice | None = None) -> Json:
    """Return the value with dicts for `Pairs`; a name given twice with different values holds the list of them.

    `twice` is called with the path of each such name, below `path`, and its values.
    """
    if isinstance(value, Pairs):
        by_name: dict[str, list[Json]] = {}
        for name, item in value:
            by_name.setdefault(name, []).append(to_plain(item, f"{path}.{name}", twice))
        return {name: _one_or_all(f"{path}.{name}", items, twice) for name, items in by_name.items()}
    if isinstance(value, list):
        return [to_plain(item, f"{path}[{index}]", twice) for index, item in enumerate(value)]
    return exact(value)


def distinct(values: list[Json]) -> list[Json]:
    """Return each different value once, in order; 1 and true differ, as they do in JSON."""
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
