"""Where in time the outcomes lie that have some value, by the traces that values leave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat

from sqlalchemy import Connection, select

from app.store.covering import Stretch, limits
from app.store.deadline import Deadline
from app.store.quarters import Span, begin
from app.store.questions import Condition, Operator, Question, Records
from app.store.schema import traces
from app.store.standing import NOTHING_BEFORE, Standing, standing
from app.store.traces import Keys, asked_keys, needles, place_of, quarter_within, stretch
from app.store.traces import places as places_of
from app.store.tracing import DIRECTORY, UNTRACED

# Days that are read together, growing: a day may tell of one outcome or of all that it has.
_AT_ONCE = {Operator.EQUAL: (8, 128), Operator.CONTAINS: (1, 8)}
_AT_ONCE_OTHERWISE = (1, 16, 128)
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
        self._filled_from = known.filled_from
        self._down = down
        since, until = limits(question.conditions)
        self._since, self._until = since or _LEAST, until
        self._live = {one for one in known.dirty[Span.QUARTER] if one >= known.filled_from}
        self._kept: dict[Span, set[int]] = {Span.DAY: set(), Span.QUARTER: set()}
        directory = select(traces.c.span, traces.c.quarter, traces.c.entries).where(traces.c.field == DIRECTORY)
        for span, quarter, told in connection.execute(directory).all():
            if told != UNTRACED:
                self._kept[Span(span)].add(quarter)
            elif quarter >= known.filled_from:
                self._live.add(quarter)
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
        sizes = _AT_ONCE.get(self._condition.operator, _AT_ONCE_OTHERWISE)
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
            joined = list(_joined(one for one in times if self._is_asked(one)))
            yield from reversed(joined) if self._down else joined

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
        self._deadline.check()
        found: dict[int, set[int]] = defaultdict(set)
        of_days = set(days)
        kept = {
            Span.DAY: [day for day in days if day in self._kept[Span.DAY]],
            Span.QUARTER: [one for one in self._kept[Span.QUARTER] if Span.DAY.of(one) in of_days],
        }
        held = needles(self._condition)
        for keys in asked_keys(self._condition) or ():
            for span, quarters in kept.items():
                for quarter, packed in self._shares(span, quarters, keys):
                    found[Span.DAY.of(quarter)].update(places_of(packed, keys, self._condition, held))
        return found

    def _shares(self, span: Span, quarters: Sequence[int], keys: Keys) -> Iterator[tuple[int, bytes]]:
        """What may hold these keys: in each span the share that begins last before them, and those that follow it."""
        if not quarters:
            return
        told = traces.alias()
        of_field = (told.c.field == self._condition.field, told.c.span == span)
        last = (
            select(told.c.entries)
            .where(*of_field, told.c.quarter == traces.c.quarter, told.c.first <= keys.low)
            .order_by(told.c.first.desc())
            .limit(1)
            .scalar_subquery()
        )
        between = traces.c.quarter.between(min(quarters), max(quarters))
        directory = (traces.c.field == DIRECTORY, traces.c.span == span, between)
        asked = set(quarters)
        for quarter, packed in self._connection.execute(select(traces.c.quarter, last).where(*directory)).all():
            if packed is not None and quarter in asked:
                yield quarter, packed
        if keys.low != keys.high:
            following = select(told.c.quarter, told.c.entries).where(
                *of_field, told.c.quarter.in_(quarters), told.c.first > keys.low, told.c.first <= keys.high
            )
            for quarter, packed in self._connection.execute(following).all():
                yield quarter, packed


def _joined(times: Iterator[Stretch]) -> Iterator[Stretch]:
    """In order, those that touch or overlap as one."""
    since: datetime | None = None
    until: datetime | None = None
    for start, end in sorted(times):
        if since is None or until is None or start > until:
            if since is not None and until is not None:
                yield since, until
            since, until = start, end
        else:
            until = max(until, end)
    if since is not None and until is not None:
        yield since, until
