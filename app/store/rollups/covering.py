"""Which clean roll-ups and which stretches of time make up what a question asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, func, select

from app.store.asking.quarters import EPOCH, Span, begin, quarter_of
from app.store.asking.questions import Condition, Operator, Question, Records
from app.store.rollups.standing import Standing, standing
from app.store.schema import outcomes, rollups

WORDS = ("integration", "product", "batch", "status", "disposition", "callee_type", "answered_by")
MAX_STRETCHES = 256  # of time left to the outcomes; with more, one look at all of them is better

_MOMENT = "ended_at"
_INSTANT = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC)
_AT_LEAST = {Operator.GT: _INSTANT, Operator.GTE: timedelta()}
_BELOW = {Operator.LT: timedelta(), Operator.LTE: _INSTANT}
PARTS = {Span.DAY: Span.HOUR, Span.HOUR: Span.QUARTER}

Stretch = tuple[datetime, datetime]
IsOne = Callable[[int, int], bool]  # whether two quarters, the first and last of a span, belong to one group


@dataclass(slots=True)
class Cover:
    """Spans by their first quarters, and the times from and to which outcomes have to be looked at."""

    spans: dict[Span, list[int]] = field(default_factory=lambda: {span: [] for span in Span})
    stretches: list[Stretch] = field(default_factory=list)


def is_covered(question: Question) -> bool:
    return question.records is Records.OUTCOMES and all(
        one.field in WORDS or is_limit(one) for one in question.conditions
    )


def is_limit(condition: Condition) -> bool:
    return condition.field == _MOMENT and (condition.operator in _AT_LEAST or condition.operator in _BELOW)


def cover(connection: Connection, question: Question, is_one: IsOne) -> Cover | None:
    """None where the outcomes themselves are to be asked. The connection reads at one moment."""
    known = standing(connection) if is_covered(question) else None
    ends = [select(end(outcomes.c.ended_at)).scalar_subquery() for end in (func.min, func.max)]
    first, last = connection.execute(select(*ends)).one()
    if known is None or (first and first < EPOCH):
        return None
    found = Cover()
    if first is None:
        return found
    since, until = limits(question.conditions)
    since, until = max(since or first, first), min(until or last + _INSTANT, last + _INSTANT)
    if since >= until:
        return found
    low = quarter_of(since) if since == first else quarter_of(since - _INSTANT) + 1
    high = quarter_of(last) + 1 if until > last else quarter_of(until)
    low = max(low, known.filled_from)
    if low >= high:
        found.stretches = [(since, until)]
        return found
    _walk(connection, known, found, (low, high), is_one)
    found.stretches += [(since, begin(low)), (begin(high), until)]
    found.stretches = joined(one for one in found.stretches if one[0] < one[1])
    return found if len(found.stretches) <= MAX_STRETCHES else None


def limits(conditions: Iterable[Condition]) -> tuple[datetime | None, datetime | None]:
    """From when on and before when the conditions on the moment hold; any of a condition's values will do."""
    since: list[datetime] = []
    until: list[datetime] = []
    for one in conditions:
        if one.field == _MOMENT and one.operator in _AT_LEAST:
            since.append(_later(min(one.values), _AT_LEAST[one.operator]))
        elif one.field == _MOMENT and one.operator in _BELOW:
            until.append(_later(max(one.values), _BELOW[one.operator]))
    return max(since, default=None), min(until, default=None)


def _later(moment: datetime, by: timedelta) -> datetime:
    """The last moment there is stays; no outcome ends as late."""
    return moment + min(by, _LAST - moment)


def _walk(connection: Connection, known: Standing, found: Cover, asked: tuple[int, int], is_one: IsOne) -> None:
    """By days: each quarter's day has a roll-up, or is dirty."""
    low, high = Span.DAY.of(asked[0]), asked[1]
    there = select(rollups.c.quarter).where(
        rollups.c.span == Span.DAY, rollups.c.quarter >= low, rollups.c.quarter < high
    )
    dirty = {day for day in known.dirty[Span.DAY] if low <= day < high}
    for day in sorted(dirty.union(connection.execute(there).scalars().all())):
        _descend(known, found, asked, is_one, Span.DAY, day)


def _descend(known: Standing, found: Cover, asked: tuple[int, int], is_one: IsOne, span: Span, quarter: int) -> None:
    """Take the span whole, or by its parts."""
    low, high = asked
    is_within = low <= quarter and quarter + span <= high
    if is_within and known.is_clean(span, quarter) and is_one(quarter, quarter + span - 1):
        found.spans[span].append(quarter)
    elif span is not Span.QUARTER:
        for part in range(quarter, quarter + span, PARTS[span]):
            if part + PARTS[span] > low and part < high:
                _descend(known, found, asked, is_one, PARTS[span], part)
    else:
        found.stretches.append((begin(quarter), begin(quarter + 1)))


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """In order, those that touch or overlap as one."""
    found: list[Stretch] = []
    for since, until in sorted(stretches):
        if found and since <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], until)
        else:
            found.append((since, until))
    return found
