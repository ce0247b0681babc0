"""Numbers to redial: the contact list, and the reasons against each number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ARRAY, Select, Text, bindparam, func, select

from app.analytics.sql import rows
from app.errors import TooBroad
from app.model import Disposition
from app.store.query.conditions import where
from app.store.query.order import ordering
from app.store.query.question import Question
from app.store.schema import outcomes

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Cursor

DESTINATION = "destination"  # Plum's name of a contact list's first column
MAX_NUMBERS = 200_000


class Candidate(NamedTuple):
    """A number, whether it was reached after the question's calls, and its attempts in all calls."""

    number: str
    is_reached: bool
    attempts: int


def contact_list(question: Question, without: Sequence[str]) -> Select[Any]:
    """Return each number of the question once, sorted by its first row in the question's order, except those in
    `without`."""
    number = outcomes.c.phone_number
    place = func.row_number().over(order_by=ordering(question)).label("place")
    excluded = select(func.unnest(bindparam("without", list(without), type_=ARRAY(Text))))
    matches = select(number, place).where(*where(question), number.is_not(None), number.not_in(excluded)).subquery()
    dialled = matches.c.phone_number
    return select(dialled.label(DESTINATION)).group_by(dialled).order_by(func.min(matches.c.place))


def candidates(cursor: Cursor, question: Question) -> list[Candidate]:
    """Return the question's numbers, sorted. Raises `TooBroad`."""
    number, ended_at = outcomes.c.phone_number, outcomes.c.ended_at
    calls = (
        select(number, func.max(ended_at).label("last_at"))
        .where(*where(question), number.is_not(None))
        .group_by(number)
        .subquery()
    )
    is_reached = func.bool_or((outcomes.c.disposition == Disposition.ANSWERED) & (ended_at > calls.c.last_at))
    statement = (
        select(calls.c.phone_number, is_reached, func.coalesce(func.sum(outcomes.c.attempts), 0))
        .select_from(calls.join(outcomes, calls.c.phone_number == number))
        .group_by(calls.c.phone_number)
        .order_by(calls.c.phone_number)
        .limit(MAX_NUMBERS + 1)
    )
    numbers = [
        Candidate(phone_number, reached, int(attempts)) for phone_number, reached, attempts in rows(cursor, statement)
    ]
    if len(numbers) > MAX_NUMBERS:
        raise TooBroad(f"more than {MAX_NUMBERS} numbers; ask for fewer calls, by since and until or a batch")
    return numbers
