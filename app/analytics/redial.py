"""Numbers to dial again: as a contact list, and with what speaks against each."""

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
    """A number; whether it was reached after the calls that are asked for; its attempts in all calls there are."""

    number: str
    is_reached: bool
    attempts: int


def contact_list(question: Question, without: Sequence[str]) -> Select[Any]:
    """Each number once, where it comes first in the question's order, but for some."""
    number = outcomes.c.phone_number
    place = func.row_number().over(order_by=ordering(question)).label("place")
    left_out = select(func.unnest(bindparam("without", list(without), type_=ARRAY(Text))))
    found = select(number, place).where(*where(question), number.is_not(None), number.not_in(left_out)).subquery()
    dialled = found.c.phone_number
    return select(dialled.label(DESTINATION)).group_by(dialled).order_by(func.min(found.c.place))


def candidates(cursor: Cursor, question: Question) -> list[Candidate]:
    """The question's numbers, in order. Raises `TooBroad`."""
    number, ended_at = outcomes.c.phone_number, outcomes.c.ended_at
    asked = (
        select(number, func.max(ended_at).label("last_at"))
        .where(*where(question), number.is_not(None))
        .group_by(number)
        .subquery()
    )
    is_reached = func.bool_or((outcomes.c.disposition == Disposition.ANSWERED) & (ended_at > asked.c.last_at))
    statement = (
        select(asked.c.phone_number, is_reached, func.coalesce(func.sum(outcomes.c.attempts), 0))
        .select_from(asked.join(outcomes, asked.c.phone_number == number))
        .group_by(asked.c.phone_number)
        .order_by(asked.c.phone_number)
        .limit(MAX_NUMBERS + 1)
    )
    found = [Candidate(one, reached, int(attempts)) for one, reached, attempts in rows(cursor, statement)]
    if len(found) > MAX_NUMBERS:
        raise TooBroad(f"more than {MAX_NUMBERS} numbers; ask for fewer calls, by since and until or a batch")
    return found
