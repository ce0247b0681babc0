"""The phone numbers of outcomes, each once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import func, select

from app.store.answers.pages import ordering
from app.store.asking.conditions import where
from app.store.asking.questions import Question
from app.store.database import Database
from app.store.exports.texts import BATCH_ROWS
from app.store.schema import outcomes


def numbers(database: Database, question: Question, seconds: float) -> Iterator[Sequence[str]]:
    """In batches, in the question's order, each where it comes first. The database sorts, not this process."""
    number = outcomes.c.phone_number
    place = func.row_number().over(order_by=ordering(question)).label("place")
    rows = select(number, place).where(*where(question), number.is_not(None)).subquery()
    statement = select(rows.c.phone_number).group_by(rows.c.phone_number).order_by(func.min(rows.c.place))
    with database.reading(seconds) as connection:
        found = connection.execution_options(yield_per=BATCH_ROWS).execute(statement).scalars()
        yield from found.partitions()
