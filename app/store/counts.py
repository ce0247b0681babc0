"""How many records a question is about, whichever the page.

An estimate is exact up to 10,000 records, if these can be counted in a moment. Beyond that PostgreSQL's planner is
asked; SQLite's does not know, so there some of the rows are looked at.
"""

from __future__ import annotations

import random
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ClauseElement, Executable, Integer, Select, func, literal_column, select
from sqlalchemy.ext.compiler import compiles

from app.errors import TooSlow
from app.store.conditions import where
from app.store.database import Database
from app.store.questions import Question

EXACT_UP_TO = 10_000
MOMENT_SECONDS = 0.03
_SAMPLES = 2_000


class Kind(StrEnum):
    """How far a count can be relied on."""

    NONE = "none"
    ESTIMATED = "estimated"
    EXACT = "exact"


class Count(NamedTuple):
    value: int | None
    kind: Kind


def count(database: Database, question: Question) -> Count:
    """All of them. Raises `TooSlow`."""
    statement = select(func.count()).select_from(question.records.table).where(*where(question))
    with database.reading() as connection:
        return Count(connection.execute(statement).scalar_one(), Kind.EXACT)


def estimate(database: Database, question: Question) -> Count:
    """About how many; 0 only where there are none."""
    first = select(question.records.table.c.id).where(*where(question)).limit(EXACT_UP_TO + 1).subquery()
    try:
        with database.reading(MOMENT_SECONDS) as connection:
            found = connection.execute(select(func.count()).select_from(first)).scalar_one()
    except TooSlow:
        return Count(max(_guess(database, question), 1), Kind.ESTIMATED)
    if found <= EXACT_UP_TO:
        return Count(found, Kind.EXACT)
    return Count(max(_guess(database, question), found), Kind.ESTIMATED)


def _guess(database: Database, question: Question) -> int:
    return _sampled(database, question) if database.is_sqlite else _planned(database, question)


class _Explain(Executable, ClauseElement):
    """What PostgreSQL would do, and how many rows it thinks that would give."""

    inherit_cache = False

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement


@compiles(_Explain, "postgresql")
def _explain(element: _Explain, compiler: Any, **kw: Any) -> str:
    return f"EXPLAIN (FORMAT JSON) {compiler.process(element.statement, **kw)}"


def _planned(database: Database, question: Question) -> int:
    statement = select(question.records.table.c.id).where(*where(question))
    with database.reading() as connection:
        [[plan]] = connection.execute(_Explain(statement)).all()
    return int(plan[0]["Plan"]["Plan Rows"])


def _sampled(database: Database, question: Question) -> int:
    """The share of some rows, taken anywhere, that fulfil the conditions, of all."""
    table, rowid = question.records.table, literal_column("rowid", Integer)
    with database.reading() as connection:
        last = connection.execute(select(func.max(rowid)).select_from(table)).scalar_one() or 0
        places = random.sample(range(1, last + 1), min(_SAMPLES, last))
        # The limit keeps SQLite from looking for the conditions first, in an index, among all rows.
        some = select(*question.records.columns).where(rowid.in_(places)).limit(_SAMPLES).subquery()
        hits = select(func.count()).select_from(some).where(*where(question, some))
        return connection.execute(hits).scalar_one() * last // max(len(places), 1)
