"""Pages of records: rows in order, as many as fit into memory, and what the pages beside them begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Select, func, select

from app.store.database import Database
from app.store.query.conditions import where
from app.store.query.order import page_of, with_long_texts
from app.store.query.question import Question
from app.store.row_sizes import LARGE_BYTES, WEIGHT, light

Row = dict[str, Any]

# Of a page, but for its last row: the worker holds it several times over, as rows, records and text.
PAGE_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in the question's order; whether more lie on either side, and the values of the rows at the edges, in the
    order's fields, for cursors. A long text among these may be a `Digest`."""

    rows: list[Row]
    more_before: bool
    more_after: bool
    first: Sequence[Any] = ()
    last: Sequence[Any] = ()


def page(database: Database, question: Question, fields: Sequence[str] | None = None) -> Page:
    """One page, with these fields and those of the order, or all; fewer rows than asked for where these are large.

    They are looked for without what is large in them, and only those that fit are asked for whole.
    Raises `TooSlow`, `EdgeLost`.
    """
    question = with_long_texts(question, partial(_look, database))
    columns = _columns(question, fields)
    kept = [order.field for order in question.whole_order]
    # One row more than asked tells whether another page follows.
    found = _found(database, page_of(question, _light(database, columns, kept), question.limit + 1))
    rows, weights = _fitting(found[: question.limit])
    more = len(found) > len(rows)
    if any(weight > LARGE_BYTES for weight in weights):
        rows = _found(database, page_of(question, columns, len(rows)))
    edges = [[row[name] for name in kept] for row in rows]
    return _turned(question, rows, edges, more)


def page_of_ids(
    database: Database,
    question: Question,
    found: Sequence[tuple[UUID, Sequence[Any]]],
    fields: Sequence[str] | None = None,
) -> Page:
    """The same of rows that are known already, in the order walked: ids, and values of the order's fields.

    There is one more of them than asked for where another page follows. A row that is gone or no longer fulfils the
    question is left out.
    """
    columns = _columns(question, fields)
    wanted = [key for key, _ in found[: question.limit]]
    by_id = {row["id"]: row for row in _found(database, _among(question, _light(database, columns, ["id"]), wanted))}
    present = [by_id[key] for key in wanted if key in by_id]
    rows, weights = _fitting(present)
    if len(rows) < len(present):
        wanted = wanted[: wanted.index(rows[-1]["id"]) + 1]
    if any(weight > LARGE_BYTES for weight in weights):
        whole = {row["id"]: row for row in _found(database, _among(question, columns, [row["id"] for row in rows]))}
        rows = [whole[row["id"]] for row in rows if row["id"] in whole]
    edges = [values for _, values in found[: len(wanted)]]
    return _turned(question, rows, edges, len(found) > len(wanted))


def _turned(question: Question, rows: list[Row], edges: Sequence[Sequence[Any]], more: bool) -> Page:
    """A page from rows in the order walked; `more` lie in that direction."""
    first, last = (edges[0], edges[-1]) if edges else ((), ())
    if question.edge and question.edge.backwards:
        return Page(rows[::-1], more, True, last, first)
    return Page(rows, question.edge is not None, more, first, last)


def count(database: Database, question: Question) -> int:
    """All records of the question, whichever the page. Raises `TooSlow`."""
    statement = select(func.count()).select_from(question.records.table).where(*where(question))
    with database.reading() as connection:
        return connection.execute(statement).scalar_one()


def _look(database: Database, statement: Select[Any]) -> Sequence[Any] | None:
    with database.reading() as connection:
        return connection.execute(statement).one_or_none()


def _found(database: Database, statement: Select[Any]) -> list[Row]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def _among(question: Question, columns: Sequence[ColumnElement[Any]], ids: Sequence[UUID]) -> Select[Any]:
    return select(*columns).where(question.records.table.c.id.in_(ids), *where(question))


def _columns(question: Question, fields: Sequence[str] | None) -> list[Column[Any]]:
    """Those of the order are always there, for the edges of the page, and the id."""
    wanted = None if fields is None else {"id", *fields, *(order.field for order in question.whole_order)}
    return [column for column in question.records.columns if wanted is None or column.name in wanted]


def _light(database: Database, columns: Sequence[Column[Any]], kept: Sequence[str]) -> list[ColumnElement[Any]]:
    return light(columns, kept, database.engine.dialect.name)


def _fitting(found: list[Row]) -> tuple[list[Row], list[int]]:
    """Those rows that make a page, and their weights; the one that fills it is its last."""
    weights = [row.pop(WEIGHT) for row in found]
    full = (number for number, held in enumerate(accumulate(weights), start=1) if held > PAGE_BYTES)
    fitting = next(full, len(weights))
    return found[:fitting], weights[:fitting]
