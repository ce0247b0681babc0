"""How many records a question is about, whichever the page.

What roll-ups cover is counted from them, and what few outcomes have where its traces lead. Of the rest an estimate is
exact up to 10,000 records, if these can be counted in a moment. Beyond that PostgreSQL's planner is asked; SQLite's
does not know, so there some of the rows are looked at.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ClauseElement, Connection, Executable, Integer, Select, func, literal, literal_column, select
from sqlalchemy.ext.compiler import compiles

from app.errors import TooSlow
from app.store.answers.pages import Page
from app.store.asking.conditions import where
from app.store.asking.quarters import QUARTER
from app.store.asking.questions import Question
from app.store.database import Database
from app.store.deadline import STATEMENT_SECONDS, Deadline
from app.store.rollups import following
from app.store.rollups.adding import Wanted
from app.store.rollups.covering import Stretch
from app.store.rollups.rolled import grouped
from app.store.rollups.stretches import in_any, together, within
from app.store.schema import outcomes
from app.store.types import JsonText

EXACT_UP_TO = 10_000
MOMENT_SECONDS = 0.01
TRACED_SECONDS = 0.05
ROLLED_SECONDS = 0.2
FEW_STRETCHES = 256
_PLACES = 500
_ROWS = 4  # at each place: they are read together, but what lies together is also alike


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
    with database.reading(at_one_moment=True) as connection:
        found = _rolled(connection, question)
        found = _traced(connection, question, STATEMENT_SECONDS) if found is None else found
        return Count(connection.execute(statement).scalar_one() if found is None else found, Kind.EXACT)


def beside(page: Page, database: Database, question: Question, kind: Kind) -> Count:
    """The count that is asked for with a page. Raises `TooSlow`."""
    if kind is Kind.NONE:
        return Count(None, Kind.NONE)
    if question.edge is None and not page.more_after:
        return Count(len(page.rows), Kind.EXACT)  # the first page is all
    return (estimate if kind is Kind.ESTIMATED else count)(database, question)


def _rolled(connection: Connection, question: Question) -> int | None:
    groups = grouped(connection, question, Wanted())
    return None if groups is None else sum(tally.count for tally in groups.values())


def _traced(connection: Connection, question: Question, seconds: float) -> int | None:
    """Those that traces lead to, where these are few."""
    found = following.places(connection, question, Deadline(seconds), down=True)
    if found is None:
        return None
    rest, cut = within(question, found)
    stretches: list[Stretch] = []
    for since, until in cut:
        if until - since > QUARTER or len(stretches) == FEW_STRETCHES:
            return None
        stretches.append((since, until))
    matching = select(outcomes.c.id).where(*where(rest))
    found_in = (in_any(matching, some, connection.dialect) for some in together(stretches))
    return sum(connection.execute(select(func.count()).select_from(one)).scalar_one() for one in found_in)


def estimate(database: Database, question: Question) -> Count:
    """About how many; 0 only where there are none."""
    try:
        with database.reading(ROLLED_SECONDS, at_one_moment=True) as connection:
            if (rolled := _rolled(connection, question)) is not None:
                return Count(rolled, Kind.EXACT)
        with database.reading(TRACED_SECONDS, at_one_moment=True) as connection:
            if (traced := _traced(connection, question, TRACED_SECONDS)) is not None:
                return Count(traced, Kind.EXACT)
    except TooSlow:
        pass  # much is going on; each of the ways below takes a moment at most
    return _estimated(database, question)


def _estimated(database: Database, question: Question) -> Count:
    first = select(question.records.table.c.id).where(*where(question)).limit(EXACT_UP_TO + 1).subquery()
    try:
        with database.reading(MOMENT_SECONDS, alone=True) as connection:
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
    """The share of some rows, the same distance apart, that fulfil the conditions, of all.

    The same rows each time, also while the store grows: they stay in memory, and an estimate does not waver.
    """
    table, rowid = question.records.table, literal_column("rowid", Integer)
    with database.reading() as connection:
        last = connection.execute(select(func.max(rowid)).select_from(table)).scalar_one() or 0
        distance = max(1 << (last // _PLACES).bit_length(), _ROWS)
        rows = [one for place in range(1, last + 1, distance) for one in range(place, min(place + _ROWS, last + 1))]
        among = select(func.json_each(literal(rows, JsonText)).table_valued("value").c.value)
        # The limit keeps SQLite from looking for the conditions first, in an index, among all rows.
        some = select(*question.records.columns).where(rowid.in_(among)).limit(len(rows)).subquery()
        hits = select(func.count()).select_from(some).where(*where(question, some))
        return connection.execute(hits).scalar_one() * last // max(len(rows), 1)
