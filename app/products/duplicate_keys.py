"""Objects whose names may stand twice, since both values are evidence; the same as plain JSON values, or as far as
their values are read one by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence
from typing import Any

from app.model import Json
from app.values import exact

MAX_DEPTH = 64
MAX_VALUES = 2_000  # of one body that are read one by one: a call has some dozens, and each costs time
MORE = "(more)"  # where a body is kept whole, as one text, that holds more

Twice = Callable[[str, list[Json]], None]


class Pairs(list[tuple[str, Any]]):
    """An object as sent: names in order, repeated ones too."""


class Rest(int):
    """How many fields or items stand beyond those that are read one by one."""


def bounded(pairs: Pairs, names: Container[str], lists: Container[str]) -> Pairs:
    """The pairs with as many values as are read one by one.

    The first of each known name counts wherever it stands. Those of `lists` stay whole: who reads them bounds them.
    """
    left, beyond = MAX_VALUES, 0
    seen: set[str] = set()
    read = Pairs()
    for name, value in pairs:
        folded = name.casefold()
        is_list = isinstance(value, list)
        size = _size(value, left) if is_list else 1
        if size <= left:
            left -= size
        elif folded in seen or folded not in names or (is_list and folded not in lists):
            beyond += value if isinstance(value, Rest) else 1
            continue
        seen.add(folded)
        read.append((name, value))
    return Pairs([*read, (MORE, Rest(beyond))]) if beyond else read


def fitting(items: Sequence[Json]) -> int:
    """How many of the first items are read one by one."""
    left = MAX_VALUES
    for at, item in enumerate(items):
        left -= _size(item, left)
        if left < 0:
            return at
    return len(items)


def _size(value: Json, most: int) -> int:
    """How many values it is and holds; not counted further once they are more than `most`."""
    size, waiting = 0, [value]
    while waiting and size <= most:
        one = waiting.pop()
        size += 1
        if isinstance(one, Pairs):
            waiting += [item for _, item in one]
        elif isinstance(one, list):
            waiting += one
    return size


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
    return exact(value)


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
