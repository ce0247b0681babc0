"""Keeping traces: of a day as one where all of it is new, else of each quarter of an hour that has changed.

A day's quarters become one later. Traces are written before roll-ups are and the marks are taken off, so a question
finds traces of all that it does not look up itself. Those of another time lead to nothing, and need not be removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Text,
    case,
    delete,
    func,
    insert,
    select,
    type_coerce,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from app.store.asking.conditions import EMPTY
from app.store.asking.quarters import Span, begin, quarter_of
from app.store.asking.questions import is_json
from app.store.rollups.traces import (
    FIELDS,
    HOUR_LENGTH,
    LENGTH,
    MANY,
    Entry,
    coarsened,
    key,
    place_of,
    quarter_within,
    shares,
    unpack,
)
from app.store.schema import outcomes, rollups, traces
from app.store.types import UtcDateTime

DIRECTORY = ""  # the field under which stands of which spans there are traces
SPANS = (Span.QUARTER, Span.DAY)
# How the traces were made. What another program made otherwise is as good as none: its outcomes are looked at.
TRACED, UNTRACED = b"2", b"-"
MOST_OUTCOMES = 200_000  # of a quarter: one with more is read by questions themselves
MOST_OF_DAY = 500_000  # of one whose quarters become one
MOST_AT_ONCE = 50_000  # of a day that is traced as one, which takes some 80 MB
APART = 2 * Span.DAY  # quarters that are kept for themselves, so that a late change makes no whole day anew
WRITTEN_ROWS = 500  # in one transaction

Row = dict[str, Any]
Write = Callable[[Connection], object]


class Merging(NamedTuple):
    """A day whose quarters are to become one, and which they are."""

    day: int
    quarters: list[int]


def of_quarter(connection: Connection, quarter: int) -> list[Row]:
    """The rows that tell of its outcomes, the directory's last."""
    if _count(connection, Span.QUARTER, quarter) > MOST_OUTCOMES:
        return [_row(DIRECTORY, Span.QUARTER, quarter, "", UNTRACED)]
    return _of_outcomes(connection, Span.QUARTER, quarter)


def of_day(connection: Connection, day: int) -> list[Row] | None:
    """Likewise of a day; None where it has too many to be told of at once."""
    if _count(connection, Span.DAY, day) > MOST_AT_ONCE:
        return None
    return _of_outcomes(connection, Span.DAY, day)


def _count(connection: Connection, span: Span, first: int) -> int:
    return int(connection.execute(select(func.count()).where(*_ended_within(span, first))).scalar_one())


def _of_outcomes(connection: Connection, span: Span, first: int) -> list[Row]:
    told = [_SecondOf(outcomes.c.ended_at), *(_told(outcomes.c[name]) for name in FIELDS)]
    rows = connection.execute(select(*told).where(*_ended_within(span, first))).all()
    seconds, *columns = zip(*rows, strict=True) if rows else [()]
    times = [one % 86_400 for one in seconds]  # engines' remainders are negative before 1970
    made: list[Row] = []
    for name, values in zip(FIELDS, columns, strict=bool(rows)):
        made += _rows(name, span, first, _entries(values, times))
    return [*made, _row(DIRECTORY, span, first, "", TRACED)]


def _ended_within(span: Span, first: int) -> list[ColumnElement[bool]]:
    return [outcomes.c.ended_at >= begin(first), outcomes.c.ended_at < begin(first + span)]


def _entries(values: Sequence[Any], seconds: Sequence[int]) -> list[Entry]:
    """Of one field. What many have is told by quarters at once: most fields have few values."""
    counts = Counter(values)
    keys = {value: key(value) for value in counts}
    common = {value for value, count in counts.items() if count > MANY}
    quarters = [place_of(one // 900) for one in seconds] if common else []
    entries = {(keys[value], at) for value, at in set(zip(values, quarters, strict=False)) if value in common}
    if len(common) < len(counts):
        entries.update((keys[one], at) for one, at in zip(values, seconds, strict=True) if one not in common)
    return coarsened(entries)


def of_quarters_instead(quarters: Iterable[int], rows: list[Row]) -> Iterator[Write]:
    """What puts these rows in the place of those of the quarters, a transaction each."""
    return _instead([traces.c.span == Span.QUARTER, traces.c.quarter.in_(list(quarters))], rows)


def of_day_instead(day: int, rows: list[Row]) -> Iterator[Write]:
    """Likewise in the place of all of a day."""
    return _instead([traces.c.span.in_(SPANS), traces.c.quarter.between(day, day + Span.DAY - 1)], rows)


def _instead(old: list[ColumnElement[bool]], rows: list[Row]) -> Iterator[Write]:
    deletion = delete(traces).where(traces.c.field.in_([DIRECTORY, *FIELDS]), *old)
    yield lambda connection: connection.execute(deletion)
    for at in range(0, len(rows), WRITTEN_ROWS):
        yield _insertion(rows[at : at + WRITTEN_ROWS])


def _insertion(rows: list[Row]) -> Write:
    return lambda connection: connection.execute(insert(traces), rows)


def due(connection: Connection, filled_from: int | None, now: datetime) -> Merging | None:
    """The day that has the most quarters for themselves, where there are many of days that are over."""
    kept = select(traces.c.quarter).where(
        traces.c.field == DIRECTORY, traces.c.span == Span.QUARTER, traces.c.entries == TRACED
    )
    today = Span.DAY.of(quarter_of(now))
    apart = [one for one in connection.execute(kept).scalars().all() if Span.DAY.of(one) < today]
    apart = [one for one in apart if filled_from is not None and Span.DAY.of(one) >= filled_from]
    if len(apart) <= APART:
        return None
    days = Counter(map(Span.DAY.of, apart))
    large = select(rollups.c.quarter).where(
        rollups.c.span == Span.DAY, rollups.c.quarter.in_(list(days)), rollups.c.count > MOST_OF_DAY
    )
    for day in connection.execute(large).scalars().all():
        del days[day]
    if not days:
        return None
    [(day, _)] = days.most_common(1)
    return Merging(day, [one for one in apart if Span.DAY.of(one) == day])


def merged(connection: Connection, merging: Merging) -> Iterator[Write]:
    """What makes one of them, a transaction for each field; the directory first names the day and then no quarter."""
    for name in FIELDS:
        of_field = select(traces.c.span, traces.c.quarter, traces.c.entries).where(*_within(name, merging))
        found = connection.execute(of_field).all()
        new = {quarter - merging.day for span, quarter, _ in found if span == Span.QUARTER}
        entries: set[Entry] = set()
        for span, _, packed in found:
            entries.update(one for one in unpack(packed) if span == Span.QUARTER or quarter_within(one[1]) not in new)
        yield _replacement(name, merging, _rows(name, Span.DAY, merging.day, coarsened(entries)))
    yield lambda connection: connection.execute(delete(traces).where(*_quarters(DIRECTORY, merging)))


def _replacement(name: str, merging: Merging, rows: list[Row]) -> Write:
    def write(connection: Connection) -> None:
        connection.execute(delete(traces).where(*_quarters(name, merging)))
        for field in (name, DIRECTORY):
            connection.execute(delete(traces).where(*_day(field, merging)))
        connection.execute(insert(traces), [_row(DIRECTORY, Span.DAY, merging.day, "", TRACED), *rows])

    return write


def _day(field: str, merging: Merging) -> list[ColumnElement[bool]]:
    return [traces.c.field == field, traces.c.span == Span.DAY, traces.c.quarter == merging.day]


def _quarters(field: str, merging: Merging) -> list[ColumnElement[bool]]:
    return [traces.c.field == field, traces.c.span == Span.QUARTER, traces.c.quarter.in_(merging.quarters)]


def _within(field: str, merging: Merging) -> list[ColumnElement[bool]]:
    spans = traces.c.span.in_(SPANS)
    of_day = traces.c.quarter.between(merging.day, merging.day + Span.DAY - 1)
    return [traces.c.field == field, spans, of_day]


def _rows(field: str, span: Span, quarter: int, entries: list[Entry]) -> list[Row]:
    return [_row(field, span, quarter, first, packed) for first, packed in shares(entries)]


def _row(field: str, span: Span, quarter: int, first: str, packed: bytes) -> Row:
    return {"field": field, "span": int(span), "quarter": quarter, "first": first, "entries": packed}


# --- what is read of an outcome, short


def _told(column: Column[Any]) -> ColumnElement[Any]:
    if is_json(column):
        return case((type_coerce(column, Text).not_in(EMPTY), 1))
    if isinstance(column.type, UtcDateTime):
        return _HourOf(column)
    return column if isinstance(column.type, Integer | Boolean) else func.substr(type_coerce(column, Text), 1, LENGTH)


class _HourOf(GenericFunction[str]):
    """A moment as text, up to its hour."""

    inherit_cache = True
    type = Text()
    name = "hour_of"


@compiles(_HourOf, "postgresql")
def _postgresql_hour(element: _HourOf, compiler: Any, **kw: Any) -> str:
    return f"to_char({compiler.process(element.clauses, **kw)}, 'YYYY-MM-DD HH24')"


@compiles(_HourOf, "sqlite")
def _sqlite_hour(element: _HourOf, compiler: Any, **kw: Any) -> str:
    return f"substr({compiler.process(element.clauses, **kw)}, 1, {HOUR_LENGTH})"


class _SecondOf(GenericFunction[int]):
    """The second of the day in UTC that a moment lies in."""

    inherit_cache = True
    type = Integer()
    name = "second_of"


@compiles(_SecondOf, "postgresql")
def _postgresql_second(element: _SecondOf, compiler: Any, **kw: Any) -> str:
    return f"mod(CAST(floor(extract(epoch FROM {compiler.process(element.clauses, **kw)})) AS bigint), 86400)"


@compiles(_SecondOf, "sqlite")
def _sqlite_second(element: _SecondOf, compiler: Any, **kw: Any) -> str:
    return f"CAST(strftime('%s', substr({compiler.process(element.clauses, **kw)}, 1, 19)) AS INTEGER) % 86400"
