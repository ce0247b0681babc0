"""Figures of the outcomes asked about: counts, rates, attempts and durations, by local time and by fields.

Roll-ups have how often each duration occurs, which gives exact percentiles. What they don't cover the store counts in
the same way, then walks those counts, so that no duration leaves it one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, RowMapping, Select, Subquery, case, cast, func, select

from app.errors import TooBroad
from app.store.asking.conditions import where
from app.store.asking.quarters import LocalClock, is_whole
from app.store.asking.questions import Operator, Question
from app.store.asking.wallclock import Bucket, Stretch, began_minutes, local_bucket, start, stretches
from app.store.database import Database
from app.store.rollups.adding import Group, Wanted
from app.store.rollups.covering import WORDS
from app.store.rollups.multisets import spread
from app.store.rollups.rolled import FIGURES, grouped
from app.store.rollups.tallies import Tally
from app.store.schema import outcomes

Row = dict[str, Any]

Raw = Row | RowMapping  # what is known of a group, before it is shown

FIELDS = WORDS
MAX_GROUPS = 100_000

_BUCKET, _BEGAN = "bucket", "began"  # columns: local time, and beside an hour the offset that it began with


def summarise(database: Database, question: Question, group_by: Sequence[str], zone: tzinfo) -> list[Row]:
    """A row for each group, by the group's values, nulls last; one in all where nothing is grouped by.

    `group_by` names fields and at most one bucket, whose value is its start in the zone. Unknown figures are None.
    Raises `TooSlow`, and `TooBroad` for more than 100,000 groups.
    """
    bucket = next((Bucket(name) for name in group_by if name in list(Bucket)), None)
    with database.reading(at_one_moment=True) as connection:
        clock = _clock(connection, question, zone) if bucket else []
        if bucket and not clock:
            return []
        rows = _rolled(connection, question, group_by, bucket, clock)
        if rows is None:
            rows = _live(connection, question, group_by, bucket, clock)
    if len(rows) > MAX_GROUPS:
        raise TooBroad(f"more than {MAX_GROUPS} groups; group by less, or ask for less time by since and until")
    shown = [_group(row, group_by, bucket, zone) | _figures_of(row) for row in rows]
    return sorted(shown, key=lambda row: [(row[name] is None, row[name]) for name in group_by])


def _clock(connection: Connection, question: Question, zone: tzinfo) -> list[Stretch]:
    """The zone's offsets while outcomes may have ended; none where none have."""
    moment = outcomes.c.ended_at
    ends = [select(end(moment)).scalar_subquery() for end in (func.min, func.max)]  # each from the index
    first, last = connection.execute(select(*ends)).one()
    for condition in question.conditions if first else []:
        if condition.field == moment.name and condition.operator in (Operator.GT, Operator.GTE, Operator.EQUAL):
            first = max(first, min(condition.values))
        if condition.field == moment.name and condition.operator in (Operator.LT, Operator.LTE, Operator.EQUAL):
            last = min(last, max(condition.values))
    return stretches(zone, first, last) if first and first <= last else []


# --- from roll-ups


def _rolled(
    connection: Connection, question: Question, group_by: Sequence[str], bucket: Bucket | None, clock: list[Stretch]
) -> Sequence[Raw] | None:
    """None where roll-ups don't cover the question, or a clock that stood between quarters of an hour."""
    if not is_whole(clock):
        return None
    local = LocalClock(clock, bucket) if bucket else None
    fields = [name for name in group_by if name != bucket]
    groups = grouped(connection, question, Wanted(fields, local, durations=True))
    if groups is None:
        return None
    if not group_by:
        groups.setdefault(((0, 0), ()), Tally())
    return [_raw(group, tally, fields, local) for group, tally in groups.items()]


def _raw(group: Group, tally: Tally, fields: Sequence[str], local: LocalClock | None) -> Row:
    (number, began), values = group
    told = spread(tally.durations.counts())
    return {
        **dict(zip(fields, values, strict=True)),
        **({_BUCKET: local.wall(number), _BEGAN: began} if local else {}),
        **{name: getattr(tally, name) for name in ("count", *FIGURES)},
        "attempts": tally.attempts if tally.attempted else None,
        "timed": told.timed,
        **{f"duration_{name}": getattr(told, name) for name in ("sum", "p50", "p95")},
    }


# --- from the outcomes


def _live(
    connection: Connection, question: Question, group_by: Sequence[str], bucket: Bucket | None, clock: list[Stretch]
) -> Sequence[Raw]:
    keys: dict[str, ColumnElement[Any]] = {name: outcomes.c[name] for name in group_by if name != bucket}
    if bucket:
        keys[_BUCKET] = local_bucket(outcomes.c.ended_at, bucket, clock, connection.dialect.name == "sqlite")
    if bucket is Bucket.HOUR:
        keys[_BEGAN] = began_minutes(outcomes.c.ended_at, clock)
    statement = _figures(_ranked(_counted(question, keys), list(keys)), list(keys))
    return connection.execute(statement.limit(MAX_GROUPS + 1)).mappings().all()


def _counted(question: Question, keys: Mapping[str, ColumnElement[Any]]) -> Subquery:
    """How many outcomes of each group lasted how long, and what else is counted of them."""
    labelled = [key.label(name) for name, key in keys.items()]
    figures = [case((holds, 1), else_=0).label(name) for name, holds in FIGURES.items()]
    plain = (
        select(*labelled, outcomes.c.duration_seconds.label("duration"), outcomes.c.attempts, *figures)
        .where(*where(question))
        .subquery()
    )
    together = [plain.c[name] for name in (*keys, "duration")]
    return (
        select(
            *together,
            func.count().label("count"),
            *(func.sum(plain.c[name]).label(name) for name in (*FIGURES, "attempts")),
        )
        .group_by(*together)
        .subquery()
    )


def _ranked(counted: Subquery, keys: list[str]) -> Subquery:
    """With how many of the group lasted so long or less, and how many durations it has in all."""
    group = [counted.c[name] for name in keys]
    timed = case((counted.c.duration.is_not(None), counted.c.count))
    upto = func.sum(timed).over(partition_by=group, order_by=counted.c.duration.asc().nulls_last(), rows=(None, 0))
    in_all = func.sum(timed).over(partition_by=group)
    return select(counted, upto.label("upto"), in_all.label("timed")).subquery()


def _figures(ranked: Subquery, keys: list[str]) -> Select[Any]:
    group = [ranked.c[name] for name in keys]

    def percentile(percent: int) -> ColumnElement[Any]:
        """By nearest rank: the least duration that so many, or fewer, reach."""
        reached = ranked.c.upto * 100 >= ranked.c.timed * percent
        return func.min(case((reached, ranked.c.duration))).label(f"duration_p{percent}")

    sums = [func.sum(ranked.c[name]).label(name) for name in ("count", *FIGURES, "attempts")]
    seconds = func.sum(cast(ranked.c.duration, BigInteger) * ranked.c["count"]).label("duration_sum")
    timed = func.max(ranked.c.timed).label("timed")
    return select(*group, *sums, seconds, timed, percentile(50), percentile(95)).group_by(*group)


def _group(row: Raw, group_by: Sequence[str], bucket: Bucket | None, zone: tzinfo) -> Row:
    return {
        name: start(row[_BUCKET], bucket, row.get(_BEGAN), zone) if name == bucket else row[name] for name in group_by
    }


def _figures_of(row: Raw) -> Row:
    count, answered, human, known = (int(row[name] or 0) for name in ("count", *FIGURES))
    seconds, timed = _whole(row["duration_sum"]), _whole(row["timed"])
    return {
        "count": count,
        "answered": answered,
        "human": human,
        "answer_rate": answered / count if count else None,
        "human_rate": human / known if known else None,
        "attempts": _whole(row["attempts"]),
        "duration_sum": seconds,
        "duration_mean": seconds / timed if seconds is not None and timed else None,
        "duration_p50": row["duration_p50"],
        "duration_p95": row["duration_p95"],
    }


def _whole(sum_: Any) -> int | None:
    """PostgreSQL's sums of large integers are decimals."""
    return None if sum_ is None else int(sum_)
