"""Stretches of time as conditions, as few statements as keep their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Dialect, Select, Subquery, and_, func, lateral, literal, select, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.selectable import Join

from app.store.asking.conditions import bound
from app.store.asking.quarters import QUARTER
from app.store.asking.questions import Question
from app.store.rollups.covering import Stretch, is_limit, limits
from app.store.schema import outcomes
from app.store.types import JsonText, UtcDateTime, sortable

_TOGETHER = (32, 128)  # short ones that are asked for in one statement, at first and from then on
_LONGEST = timedelta(hours=1)  # of those that are asked for in one statement


def ended_within(stretch: Stretch) -> ColumnElement[bool]:
    return _ended(*(bound(outcomes.c.ended_at, moment) for moment in stretch))


def _ended(since: ColumnElement[Any], until: ColumnElement[Any]) -> ColumnElement[bool]:
    return and_(outcomes.c.ended_at >= since, outcomes.c.ended_at < until)


def in_any(statement: Select[Any], stretches: Sequence[Stretch], dialect: Dialect) -> Subquery:
    """The rows of each stretch, looked up by itself: left to choose, an engine may rather walk through all of them.

    The stretches are one parameter, so that the statement is the same for any number of them.
    """
    return (_in_any_on_sqlite if dialect.name == "sqlite" else _in_any_on_postgresql)(statement, stretches)


def _in_any_on_sqlite(statement: Select[Any], stretches: Sequence[Stretch]) -> Subquery:
    pairs = literal([(sortable(since), sortable(until)) for since, until in stretches], JsonText)
    one = func.json_each(pairs).table_valued("value", name="stretch")
    since, until = (func.json_extract(one.c.value, place) for place in ("$[0]", "$[1]"))
    return statement.select_from(_InTurn(one, outcomes, true())).where(_ended(since, until)).subquery()


def _in_any_on_postgresql(statement: Select[Any], stretches: Sequence[Stretch]) -> Subquery:
    ends = (literal(list(one), ARRAY(UtcDateTime)) for one in zip(*stretches, strict=True))
    one = func.unnest(*ends).table_valued("since", "until").render_derived(name="stretch")
    # The offset keeps the planner from joining in another order.
    rows = lateral(statement.where(_ended(one.c.since, one.c.until)).offset(0))
    return select(rows).select_from(one.join(rows, true())).subquery()


class _InTurn(Join):
    """A join whose right side is looked up for each row of its left."""

    inherit_cache = True


@compiles(_InTurn, "sqlite")
def _cross_join(element: _InTurn, compiler: Any, **kw: Any) -> str:
    left, right = (compiler.process(side, **kw) for side in (element.left, element.right))
    return f"{left} CROSS JOIN {right}"


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
    """In their order, a long one by itself."""
    size, then = _TOGETHER
    short, length = list[Stretch](), timedelta()
    for one in stretches:
        is_long = one[1] - one[0] > QUARTER
        if short and (is_long or len(short) == size or length > _LONGEST):
            yield short
            short, length, size = [], timedelta(), then
        if is_long:
            yield [one]
        else:
            short.append(one)
            length += one[1] - one[0]
    if short:
        yield short
