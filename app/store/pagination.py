"""Pages of records: sorted rows, limited to the memory of a page, and the edges at which the neighbouring pages
begin."""

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

# Bytes of a page without its last row. The worker holds a page several times: as rows, as records and as text.
PAGE_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Page:
    """A page's rows in the question's order, and whether there are more before and after it.

    `first` and `last` are the sort field values of the rows at its edges, for cursors; a `Digest` may replace a long
    text.
    """

    rows: list[Row]
    more_before: bool
    more_after: bool
    first: Sequence[Any] = ()
    last: Sequence[Any] = ()


def page(database: Database, question: Question, fields: Sequence[str] | None = None) -> Page:
    """Return one page with these fields and the sort fields, or with all fields; fewer rows than the limit if rows
    are large.

    The first query omits large texts; a second one then fetches only the rows that fit. Raises `TooSlow`, `EdgeLost`.
    """
    question = with_long_texts(question, partial(_fetch_row, database))
    columns = _columns(question, fields)
    sort_fields = [order.field for order in question.whole_order]
    # One additional row tells whether another page follows.
    light_rows = _fetch_rows(database, page_of(question, _light(database, columns, sort_fields), question.limit + 1))
    rows, weights = _fitting(light_rows[: question.limit])
    more = len(light_rows) > len(rows)
    if any(weight > LARGE_BYTES for weight in weights):
        rows = _fetch_rows(database, page_of(question, columns, len(rows)))
    edges = [[row[name] for name in sort_fields] for row in rows]
    return _oriented_page(question, rows, edges, more)


def page_of_ids(
    database: Database,
    question: Question,
    found: Sequence[tuple[UUID, Sequence[Any]]],
    fields: Sequence[str] | None = None,
) -> Page:
    """Return the page of rows whose ids and sort field values are known, in the direction of paging.

    `found` has one entry more than the limit if another page follows. Rows that were removed or no longer match the
    question are omitted.
    """
    columns = _columns(question, fields)
    ids = [key for key, _ in found[: question.limit]]
    by_id = {
        row["id"]: row
        for row in _fetch_rows(database, _select_by_ids(question, _light(database, columns, ["id"]), ids))
    }
    light_rows = [by_id[key] for key in ids if key in by_id]
    rows, weights = _fitting(light_rows)
    if len(rows) < len(light_rows):
        ids = ids[: ids.index(rows[-1]["id"]) + 1]
    if any(weight > LARGE_BYTES for weight in weights):
        complete_rows = {
            row["id"]: row
            for row in _fetch_rows(database, _select_by_ids(question, columns, [row["id"] for row in rows]))
        }
        rows = [complete_rows[row["id"]] for row in rows if row["id"] in complete_rows]
    edges = [values for _, values in found[: len(ids)]]
    return _oriented_page(question, rows, edges, len(found) > len(ids))


def _oriented_page(question: Question, rows: list[Row], edges: Sequence[Sequence[Any]], more: bool) -> Page:
    """Make a page of rows in the direction of paging; `more` refers to that direction."""
    first, last = (edges[0], edges[-1]) if edges else ((), ())
    if question.edge and question.edge.backwards:
        return Page(rows[::-1], more, True, last, first)
    return Page(rows, question.edge is not None, more, first, last)


def count(database: Database, question: Question) -> int:
    """Count all records that match the question, regardless of its page. Raises `TooSlow`."""
    statement = select(func.count()).select_from(question.records.table).where(*where(question))
    with database.reading() as connection:
        return connection.execute(statement).scalar_one()


def _fetch_row(database: Database, statement: Select[Any]) -> Sequence[Any] | None:
    with database.reading() as connection:
        return connection.execute(statement).one_or_none()


def _fetch_rows(database: Database, statement: Select[Any]) -> list[Row]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def _select_by_ids(question: Question, columns: Sequence[ColumnElement[Any]], ids: Sequence[UUID]) -> Select[Any]:
    return select(*columns).where(question.records.table.c.id.in_(ids), *where(question))


def _columns(question: Question, fields: Sequence[str] | None) -> list[Column[Any]]:
    """Return the columns of these fields, plus the id and the sort fields, which the page's edges need."""
    names = None if fields is None else {"id", *fields, *(order.field for order in question.whole_order)}
    return [column for column in question.records.columns if names is None or column.name in names]


def _light(database: Database, columns: Sequence[Column[Any]], complete: Sequence[str]) -> list[ColumnElement[Any]]:
    return light(columns, complete, database.engine.dialect.name)


def _fitting(rows: list[Row]) -> tuple[list[Row], list[int]]:
    """Return the rows that fit on a page, and their weights; the row that exceeds the limit is the last one."""
    weights = [row.pop(WEIGHT) for row in rows]
    lengths = (number for number, total in enumerate(accumulate(weights), start=1) if total > PAGE_BYTES)
    length = next(lengths, len(weights))
    return rows[:length], weights[:length]
