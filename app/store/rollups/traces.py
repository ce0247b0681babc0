"""Traces: which values of a field the outcomes of a day have, and at which seconds of that day they ended.

A trace says where to look, never what is there: values are shortened to keys and often seen places made coarser, so
it leads to all that is asked for and to a little else. Keys are texts in the order of their values.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from app.store.asking.conditions import EMPTY
from app.store.asking.quarters import Span, begin
from app.store.asking.questions import Condition, Operator, Records, is_json
from app.store.rollups.covering import WORDS, Stretch
from app.store.schema import outcomes

FIELDS = tuple(one.name for one in Records.OUTCOMES.columns if one.name not in {"id", "ended_at", *WORDS})
LENGTH = 40  # of a key; few texts differ only behind that
HOUR_LENGTH = len("2026-03-08 14")  # of the key of a moment: most are of the hour in which the call ended
MANY = Span.DAY.value  # places of one value; with more they are told by quarters, which are no more than that
MANY_QUARTERS = 32  # of one value; with more they are told by the day
SHARE = 64  # entries that are kept together
MOST_PLACES = 512  # of a day that are looked at one by one

# Places: the seconds of a day, its quarters, and all of it.
_FIRST_QUARTER = 86_400
_WHOLE_DAY = _FIRST_QUARTER + Span.DAY

_NULL, _EMPTY, _HIGHEST = "", "\x01", chr(0x10FFFF) * LENGTH
_GREATEST = 10**10 - 1
_FEW_VALUES = {"identity", "status_raw", "callee_type_raw", "attempts", "max_attempts", "deliveries", "normaliser"}
_CUT = 1 << 31  # marks a share that has keys of texts that are longer
_MOST_VALUES = 50  # of one condition
_MOST_PARTS = 10  # each of which is looked for in all shares

Entry = tuple[str, int]  # a key and a place


class Keys(NamedTuple):
    """All keys from the low to the high one, both among them."""

    low: str
    high: str


def key(value: Any) -> str:
    """Of a value, or of what was read of it to be traced."""
    if value is None:
        return _NULL
    if isinstance(value, int):
        return f"{min(value, _GREATEST):010d}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(" ")[:HOUR_LENGTH]
    return str.__str__(value)[:LENGTH] or _EMPTY


def asked_keys(condition: Condition) -> list[Keys] | None:
    """Which keys can fulfil the condition, or have to be looked through; None where that is no help."""
    if condition.field not in FIELDS:
        return None
    match condition.operator:
        case Operator.NULL:
            return None if len(set(condition.values)) == 2 else [_nulls() if condition.values[0] else _others()]
        case Operator.CONTAINS if is_json(outcomes.c[condition.field]):
            return None if any(value in empty for value in condition.values for empty in EMPTY) else [_others()]
        case Operator.CONTAINS:
            return [_others()] if len(condition.values) <= _MOST_PARTS else None
        case Operator.NOT:
            return [Keys(_NULL, _HIGHEST)] if condition.field in _FEW_VALUES else None
        case Operator.GT | Operator.GTE:
            return [Keys(_beyond(condition, min(condition.values), 1), _HIGHEST)]
        case Operator.LT | Operator.LTE:
            return [Keys(_EMPTY, _beyond(condition, max(condition.values), -1))]
    values = list(dict.fromkeys(condition.values))
    if len(values) > _MOST_VALUES:
        return None
    return [
        _beginning(value) if condition.operator is Operator.PREFIX else Keys(key(value), key(value))
        for value in values
    ]


class Sieve:
    """Tells of shares and keys, among those asked for, whether they may fulfil a condition."""

    def __init__(self, condition: Condition) -> None:
        is_json_text = is_json(outcomes.c[condition.field])
        self._others = {key(value) for value in condition.values} if condition.operator is Operator.NOT else None
        self._parts: list[str] = []
        if condition.operator is Operator.CONTAINS and not is_json_text:
            self._parts = list(condition.values)
        self._needles = [part.encode("utf-8", "surrogatepass") for part in self._parts]

    def may_hold(self, packed: bytes) -> bool:
        """By one look at the whole share, which passes most of them over."""
        (head,) = struct.unpack_from("<I", packed)
        if not self._needles or head & _CUT:
            return True
        return any(packed.find(one, 4 + 4 * head) >= 0 for one in self._needles)

    def places(self, packed: bytes, keys: Keys) -> Iterable[int]:
        """Of the entries of these keys those that may fulfil it."""
        found, at = _unpacked(packed)
        low, high = bisect_left(found, keys.low), bisect_right(found, keys.high)
        if self._others is None and not self._parts:
            return at[low:high]
        return [at[number] for number in range(low, high) if self._may_be(found[number])]

    def _may_be(self, one: str) -> bool:
        if len(one) >= LENGTH or one == _EMPTY:
            return True  # what the key stands for may be something else: a longer text, or one that is not empty
        if self._others is not None:
            return one not in self._others
        return any(part in one for part in self._parts)


def _nulls() -> Keys:
    return Keys(_NULL, _NULL)


def _others() -> Keys:
    return Keys(_EMPTY, _HIGHEST)


def _beyond(condition: Condition, value: Any, step: int) -> str:
    """Keys of numbers are exact, so that none need be looked at that is not beyond."""
    is_strict = condition.operator in (Operator.GT, Operator.LT)
    return key(value + step if is_strict and isinstance(value, int) else value)


def _beginning(prefix: str) -> Keys:
    return Keys(key(prefix), f"{prefix[:LENGTH]}{_HIGHEST}")


# --- how they are kept


def coarsened(entries: Collection[Entry]) -> list[Entry]:
    """In order, no key with more than `MANY` places of a day."""
    counts = Counter(one for one, _ in entries)
    found = {entry for entry in entries if counts[entry[0]] <= MANY}
    quarters = {(one, _quarter(place)) for one, place in entries if counts[one] > MANY}
    counts = Counter(one for one, _ in quarters)
    found |= {(one, place if counts[one] <= MANY_QUARTERS else _WHOLE_DAY) for one, place in quarters}
    return sorted(found)


def quarter_within(place: int) -> int | None:
    """Of the day; None where it is all of it."""
    quarter = _quarter(place) - _FIRST_QUARTER
    return quarter if quarter < Span.DAY else None


def place_of(quarter: int) -> int:
    """A quarter of the day."""
    return _FIRST_QUARTER + quarter


def _quarter(place: int) -> int:
    return place // 900 + _FIRST_QUARTER if place < _FIRST_QUARTER else place


def shares(entries: Sequence[Entry]) -> Iterator[tuple[str, bytes]]:
    """Each with its first key. No key is in two."""
    share: list[Entry] = []
    for entry in entries:
        if len(share) >= SHARE and entry[0] != share[-1][0]:
            yield share[0][0], _pack(share)
            share = []
        share.append(entry)
    if share:
        yield share[0][0], _pack(share)


def _pack(share: list[Entry]) -> bytes:
    keys = "\0".join(one for one, _ in share)  # no text of the record holds NUL
    head = len(share) | (_CUT if any(len(one) >= LENGTH for one, _ in share) else 0)
    return struct.pack(f"<{len(share) + 1}I", head, *(place for _, place in share)) + keys.encode()


def unpack(packed: bytes) -> list[Entry]:
    return list(zip(*_unpacked(packed), strict=True))


def surveyable(places: set[int]) -> set[int]:
    """Of one day, with too many its quarters: these are found as quickly."""
    return places if len(places) <= MOST_PLACES else {_quarter(place) for place in places}


def _unpacked(packed: bytes) -> tuple[list[str], Sequence[int]]:
    (head,) = struct.unpack_from("<I", packed)
    count = head & ~_CUT
    return packed[4 + 4 * count :].decode().split("\0"), struct.unpack_from(f"<{count}I", packed, 4)


# --- where they lead


def stretch(day: int, place: int) -> Stretch:
    """The time that a place of this day is."""
    if place < _FIRST_QUARTER:
        return _seconds(day, place, 1)
    if place < _WHOLE_DAY:
        return _seconds(day, (place - _FIRST_QUARTER) * 900, 900)
    return begin(day), begin(day + Span.DAY)


def _seconds(day: int, first: int, length: int) -> Stretch:
    since = begin(day).timestamp() + first
    return datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(since + length, UTC)
