"""Where in time the outcomes lie that have some value, by the traces that values leave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Any

from sqlalchemy import Column, Connection, ScalarSelect, null, select

from app.store.aside import aside
from app.store.asking.quarters import Span, begin, quarter_of
from app.store.asking.questions import Condition, Operator, Question, Records
from app.store.deadline import Deadline
from app.store.rollups.covering import Stretch, joined, limits
from app.store.rollups.standing import NOTHING_BEFORE, Standing, standing
from app.store.rollups.traces import Keys, Sieve, asked_keys, place_of, quarter_within, stretch, surveyable
from app.store.rollups.tracing import DIRECTORY, SPANS, TRACED
from app.store.schema import traces

# Days that are read together, growing: of one value a day tells little, of many perhaps of all its outcomes.
_AT_ONCE = (8, 128)
_AT_ONCE_OF_MANY = (1, 16, 128)
_AT_ONCE_OF_ALL = (1, 8)
_RARE = {"call_id", "message_reference", "reference", "phone_number", "phone_number_raw"}  # nearly each has its own
_LEAST = datetime(1, 1, 1, tzinfo=UTC)


def followed(question: Question) -> Condition | None:
    """Of the conditions the one that traces are best followed by."""
    if question.records is not Records.OUTCOMES:
        return None
    found = [one for one in question.conditions if asked_keys(one)]
    return min(
        found,
        key=lambda one: (not is_rare(one), not is_telling(one), one.operator is not Operator.EQUAL),
        default=None,
    )


def is_rare(condition: Condition) -> bool:
    """Whether hardly more than one outcome fulfils it."""
    return condition.field in _RARE and condition.operator is Operator.EQUAL


def is_telling(condition: Condition) -> bool:
    """Whether it is likely to leave fewer outcomes than conditions on words do."""
    return condition.field in _RARE and condition.operator in (Operator.EQUAL, Operator.PREFIX, Operator.CONTAINS)


def places(connection: Connection, question: Question, deadline: Deadline, *, down: bool) -> Iterator[Stretch] | None:
    """The stretches of time that hold the rows, in the order of the walk; None where traces cannot tell.

    The connection reads at one moment. Raises `TooSlow`.
    """
    condition = followed(question)
    known = standing(connection) if condition else None
    if condition is None or known is None:
        return None
    return _Walk(connection, question, condition, known, deadline, down).in_turn()


class _Walk:
    """Through time in one direction, day by day."""

    def __init__(
        self,
        connection: Connection,
        question: Question,
        condition: Condition,
        known: Standing,
        deadline: Deadline,
        down: bool,
    ) -> None:
        self._connection = connection
        self._deadline = deadline
        self._condition = condition
        self._sieve = Sieve(condition)
        self._filled_from = known.filled_from
        self._down = down
        since, until = limits(question.conditions)
        self._since, self._until = since or _LEAST, until
        self._live = {one for one in known.dirty[Span.QUARTER] if one >= known.filled_from}
        self._kept: dict[Span, set[int]] = {Span.DAY: set(), Span.QUARTER: set()}
        directory = select(traces.c.span, traces.c.quarter, traces.c.entries).where(traces.c.field == DIRECTORY)
        directory = directory.where(
            traces.c.span.in_(SPANS), traces.c.quarter >= Span.DAY.of(quarter_of(self._since))
        )
        for span, quarter, told in connection.execute(directory).all():
            if told == TRACED:
                self._kept[Span(span)].add(quarter)
            else:
                self._live.update(one for one in range(quarter, quarter + span) if one >= known.filled_from)
        self._live_of: dict[int, list[int]] = defaultdict(list)
        for quarter in self._live:
            self._live_of[Span.DAY.of(quarter)].append(quarter)

    def in_turn(self) -> Iterator[Stretch]:
        if not self._down:
            yield from self._unfilled()
        days = sorted({Span.DAY.of(one) for one in self._live.union(*self._kept.values())}, reverse=self._down)
        days = [day for day in days if self._is_asked((begin(day), begin(day + Span.DAY)))]
        at = 0
        for size in self._sizes():
            if at >= len(days):
                break
            yield from self._of_days(days[at : at + size])
            at += size
        if self._down:
            yield from self._unfilled()

    def _sizes(self) -> Iterator[int]:
        condition = self._condition
        sizes = _AT_ONCE if condition.operator is Operator.EQUAL else _AT_ONCE_OF_MANY
        if condition.operator is Operator.CONTAINS and is_telling(condition):
            sizes = _AT_ONCE_OF_ALL
        return chain(sizes, repeat(sizes[-1]))

    def _unfilled(self) -> Iterator[Stretch]:
        if self._filled_from != NOTHING_BEFORE:
            yield _LEAST, begin(self._filled_from)

    def _is_asked(self, one: Stretch) -> bool:
        return one[1] > self._since and (self._until is None or one[0] < self._until)

    def _of_days(self, days: Sequence[int]) -> Iterator[Stretch]:
        found = self._places(days)
        for day in days:
            live = self._live_of[day]
            times = [stretch(day, place) for place in self._reliable(day, found[day], is_whole=not live)]
            times += [(begin(one), begin(one + 1)) for one in live]
            in_order = joined(one for one in times if self._is_asked(one))
            yield from reversed(in_order) if self._down else in_order

    def _reliable(self, day: int, places: set[int], *, is_whole: bool) -> Iterator[int]:
        """The places without what is looked at anyway; a whole day that has such by its quarters."""
        is_whole = is_whole and day >= self._filled_from
        for place in places:
            quarter = quarter_within(place)
            if is_whole:
                yield place
            elif quarter is not None:
                if self._is_told(day + quarter):
                    yield place
            else:
                yield from (place_of(one) for one in range(Span.DAY) if self._is_told(day + one))

    def _is_told(self, quarter: int) -> bool:
        return quarter >= self._filled_from and quarter not in self._live

    def _places(self, days: Sequence[int]) -> dict[int, set[int]]:
        """By day. Days that are not among these, but between them, have no traces."""
        self._deadline.check()
        found: dict[int, set[int]] = defaultdict(set)
        for keys in asked_keys(self._condition) or ():
            for shares in self._shares(min(days), max(days) + Span.DAY - 1, keys):
                aside(self._sift, shares, keys, found)
        return defaultdict(set, {day: surveyable(places) for day, places in found.items()})

    def _sift(self, shares: Sequence[Any], keys: Keys, found: dict[int, set[int]]) -> None:
        for quarter, packed in shares:
            if packed is not None and self._sieve.may_hold(packed):
                found[Span.DAY.of(quarter)].update(self._sieve.places(packed, keys))

    def _shares(self, first: int, last: int, keys: Keys) -> Iterator[Sequence[Any]]:
        """What may hold these keys: of each span the share that begins last before them, and those that follow it."""
        is_one = keys.low == keys.high
        beginning = (
            self._last(traces.c.entries, keys.low),
            null() if is_one else self._last(traces.c.first, keys.high),
        )
        directory = select(traces.c.span, traces.c.quarter, *beginning).where(
            traces.c.field == DIRECTORY, traces.c.span.in_(SPANS), traces.c.quarter.between(first, last)
        )
        beginnings = self._connection.execute(directory).all()
        yield [(quarter, packed) for _, quarter, packed, _ in beginnings]
        wide: dict[int, list[int]] = defaultdict(list)
        for span, quarter, _, upto in beginnings:
            if upto is not None and upto > keys.low:
                wide[span].append(quarter)
        for span, quarters in wide.items():
            of_span = (traces.c.field == self._condition.field, traces.c.span == span, traces.c.quarter.in_(quarters))
            later = (traces.c.first > keys.low, traces.c.first <= keys.high)
            yield self._connection.execute(select(traces.c.quarter, traces.c.entries).where(*of_span, *later)).all()

    def _last(self, column: Column[Any], key: str) -> ScalarSelect[Any]:
        """Of the share that begins with this key or last before it, in the span that the directory names."""
        told = traces.alias()
        return (
            select(told.c[column.name])
            .where(told.c.field == self._condition.field, told.c.first <= key)
            .where(told.c.span == traces.c.span, told.c.quarter == traces.c.quarter)
            .order_by(told.c.first.desc())
            .limit(1)
            .scalar_subquery()
        )
