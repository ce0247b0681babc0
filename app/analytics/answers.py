"""Answers to questions, one statement each: pages of ids in any order, counts, facets and summaries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from sqlalchemy import Boolean, Column, ColumnElement, case, func, literal_column, select

from app.analytics.grouping_sets import groups
from app.analytics.sql import rows
from app.errors import TooBroad
from app.store.query.buckets import Bucket, Stretch, began_minutes, local_bucket, start, stretches
from app.store.query.conditions import where
from app.store.query.order import page_of, with_long_texts
from app.store.query.question import LONG, Digest, Question
from app.store.schema import outcomes
from app.store.types import CodePointText, Word

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Cursor

# Columns with few distinct values: enumerations, booleans, and the integration.
_FEW_VALUED = frozenset(
    {column.name for column in outcomes.c if isinstance(column.type, Word | Boolean)} | {"integration"}
)
MAX_VALUES = 100  # of a facet
MAX_GROUPS = 100_000
GROUPS = ("integration", "product", "batch", "status", "disposition", "callee_type", "answered_by")

Row = dict[str, Any]
Facet = tuple[Any, int]  # a value and its count


class Found(NamedTuple):
    """An outcome's id and its values of the sort fields; a `Digest` stands for a long text."""

    id: UUID
    values: list[Any]


def find(cursor: Cursor, question: Question) -> list[Found]:
    """Return the ids of one page in the direction of paging, plus the row after it if there is one. Raises
    `EdgeLost`."""
    question = with_long_texts(question, lambda statement: next(iter(rows(cursor, statement)), None))
    columns = [outcomes.c[order.field] for order in question.whole_order]
    selected = [expression for column in columns for expression in (_short(column), _digest(column))]
    matches = rows(cursor, page_of(question, [outcomes.c.id, *selected], question.limit + 1))
    return [Found(key, list(map(_value, values[::2], values[1::2]))) for key, *values in matches]


def _short(column: Column[Any]) -> ColumnElement[Any]:
    return case((func.length(column) <= LONG, column)) if column.type is CodePointText else column


def _digest(column: Column[Any]) -> ColumnElement[Any]:
    is_text = column.type is CodePointText
    return case((func.length(column) > LONG, func.sha256(column))) if is_text else literal_column("NULL")


def _value(short: Any, digest: str | None) -> Any:
    return short if digest is None else Digest(digest)


def count(cursor: Cursor, question: Question) -> int:
    """Count all outcomes that match the question, regardless of its page."""
    [[total]] = rows(cursor, select(func.count()).select_from(outcomes).where(*where(question)))
    return int(total)


def facets(cursor: Cursor, question: Question, fields: Sequence[str]) -> dict[str, list[Facet]]:
    """Return the values of each field with their counts: most frequent first, then by value, null last."""
    few = [field for field in dict.fromkeys(fields) if field in _FEW_VALUED]
    facets_of = _few_valued(cursor, question, few) if few else {}
    return {
        field: facets_of[field] if field in few else _facet(cursor, question, outcomes.c[field]) for field in fields
    }


def _few_valued(cursor: Cursor, question: Question, fields: Sequence[str]) -> dict[str, list[Facet]]:
    """Count several fields in one statement. A field of many values is faster in a statement of its own."""
    columns = {field: outcomes.c[field] for field in fields}
    rows_by_field = groups(cursor, columns, [[field] for field in fields], {"count": func.count()}, where(question))
    counted = {
        field: [(row[field], row["count"]) for row in rows] for field, rows in zip(fields, rows_by_field, strict=True)
    }
    return {field: sorted(values, key=_most_frequent)[:MAX_VALUES] for field, values in counted.items()}


def _most_frequent(facet: Facet) -> Any:
    value, count = facet
    return -count, value is None, value


def _facet(cursor: Cursor, question: Question, column: Column[Any]) -> list[Facet]:
    statement = select(column, func.count()).where(*where(question)).group_by(column)
    ordered = statement.order_by(func.count().desc(), column.asc().nulls_last())
    return [(value, counted) for value, counted in rows(cursor, ordered.limit(MAX_VALUES))]


def summarise(cursor: Cursor, question: Question, group_by: Sequence[str], zone: tzinfo) -> list[Row]:
    """Return one row for each group, sorted by the group's values, nulls last; a single row if `group_by` is empty.

    `group_by` names fields and at most one bucket; a bucket's value is its start in the zone. Unknown figures are
    None. Raises `TooBroad` if there are more than 100,000 groups.
    """
    bucket = next((Bucket(name) for name in group_by if name in list(Bucket)), None)
    clock = clock_of(cursor, question, zone) if bucket else []
    if bucket and not clock:
        return []
    keys = [_key(name, bucket, clock) for name in group_by]
    began = [began_minutes(outcomes.c.ended_at, clock)] if bucket is Bucket.HOUR else []
    positions: list[ColumnElement[Any]] = [literal_column(str(at + 1)) for at in range(len(keys) + len(began))]
    statement = select(*keys, *began, *_FIGURES).where(*where(question)).group_by(*positions).limit(MAX_GROUPS + 1)
    result = rows(cursor, statement)
    if len(result) > MAX_GROUPS:
        raise TooBroad(f"more than {MAX_GROUPS} groups; group by less, or ask for less time by since and until")
    summaries = [_summary(row, group_by, bucket, zone) for row in result]
    return sorted(summaries, key=lambda row: [(row[name] is None, row[name]) for name in group_by])


def clock_of(cursor: Cursor, question: Question, zone: tzinfo) -> list[Stretch]:
    """Return the zone's offsets between the first and the last end of these outcomes; an empty list if there are
    none."""
    moment = outcomes.c.ended_at
    [[first, last]] = rows(cursor, select(func.min(moment), func.max(moment)).where(*where(question)))
    return stretches(zone, first, last) if first else []


def _key(name: str, bucket: Bucket | None, clock: Sequence[Stretch]) -> ColumnElement[Any]:
    return local_bucket(outcomes.c.ended_at, bucket, clock) if bucket and name == bucket else outcomes.c[name]


# Nearest rank, both percentiles in one aggregate, since each aggregate holds all durations until the ranks are known.
# The shares are decimals, so that rounding cannot select a neighbouring rank.
_PERCENTILES = func.quantile_disc(outcomes.c.duration_seconds, literal_column("[0.5, 0.95]"))

_FIGURES: list[ColumnElement[Any]] = [
    func.count(),
    func.count().filter(outcomes.c.disposition == "answered"),
    func.count().filter(outcomes.c.answered_by == "human"),
    func.count(outcomes.c.answered_by),
    func.sum(outcomes.c.attempts),
    func.sum(outcomes.c.duration_seconds),
    func.count(outcomes.c.duration_seconds),
    _PERCENTILES,
]


def _summary(row: Sequence[Any], group_by: Sequence[str], bucket: Bucket | None, zone: tzinfo) -> Row:
    keys, figures = row[: len(group_by)], row[-len(_FIGURES) :]
    began = row[len(group_by)] if bucket is Bucket.HOUR else None
    total, answered, human, known, attempts, seconds, with_duration, percentiles = figures
    median, high = percentiles or (None, None)

    def key_value(name: str, value: Any) -> Any:
        return start(value.replace(tzinfo=None), bucket, began, zone) if bucket and name == bucket else value

    return {name: key_value(name, value) for name, value in zip(group_by, keys, strict=True)} | {
        "count": total,
        "answered": answered,
        "human": human,
        "answer_rate": answered / total if total else None,
        "human_rate": human / known if known else None,
        "attempts": _whole(attempts),
        "duration_sum": _whole(seconds),
        "duration_mean": int(seconds) / with_duration if with_duration else None,
        "duration_p50": median,
        "duration_p95": high,
    }


def _whole(sum_: Any) -> int | None:
    return None if sum_ is None else int(sum_)
