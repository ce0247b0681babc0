"""Stretches of time as conditions, as few statements as keep their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, and_, union_all

from app.store.conditions import bound
from app.store.covering import Stretch, is_limit, limits
from app.store.quarters import QUARTER
from app.store.questions import Question
from app.store.schema import outcomes

_TOGETHER = (4, 16)  # short ones that are asked for in one statement, at first and from then on


def ended_within(stretch: Stretch) -> ColumnElement[bool]:
    moment = outcomes.c.ended_at
    return and_(moment >= bound(moment, stretch[0]), moment < bound(moment, stretch[1]))


def in_any(statement: Select[Any], stretches: Sequence[Stretch]) -> Subquery:
    """The rows of each stretch, looked up by itself: where a condition has many ranges SQLite would rather walk."""
    return union_all(*(statement.where(ended_within(one)) for one in stretches)).subquery()


def within(question: Question, stretches: Iterable[Stretch]) -> tuple[Question, Iterator[Stretch]]:
    """The question without its limits of time, and the stretches cut to them.

    With both in one statement SQLite may begin at the limit, and walk through all that lies between.
    """
    rest = [one for one in question.conditions if not is_limit(one)]
    return replace(question, conditions=rest), _cut(stretches, *limits(question.conditions))


def _cut(stretches: Iterable[Stretch], since: datetime | None, until: datetime | None) -> Iterator[Stretch]:
    for start, end in stretches:
        first, last = max(start, since or start), min(end, until or end)
        if first < last:
            yield first, last


def together(stretches: Iterable[Stretch]) -> Iterator[list[Stretch]]:
    """In their order, a long one by itself. Empty ones make up the usual number: new statements cost time."""
    first, then = _TOGETHER
    size, short = first, list[Stretch]()
    for one in stretches:
        is_long = one[1] - one[0] > QUARTER
        if short and (is_long or len(short) == size):
            yield _filled_up(short, size)
            size, short = then, []
        if is_long:
            yield [one]
        else:
            short.append(one)
    if short:
        yield _filled_up(short, size)


def _filled_up(short: list[Stretch], size: int) -> list[Stretch]:
    since, _ = short[-1]
    return short + [(since, since)] * (size - len(short))
