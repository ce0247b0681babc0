"""What was new in deliveries, counted beside the callbacks: each delivery once, however often it is looked at.

Who counts follows the journal of changes from a stored position, after one walk over all outcomes that were there
before. Most outcomes have one delivery, which their row tells whole; of the others the deliveries are read again. A
step reads without a lock, then writes its counts and its position in one small transaction, which is void where
another has moved the position meanwhile. So it may be killed anywhere, and two may run.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, func, insert, select, update

from app.drift import novelties, others
from app.errors import StoreRefused
from app.model import Delivery, DriftKind, Novelty, Reading
from app.store import changes
from app.store.asking.conditions import where
from app.store.asking.questions import Condition, Operator, Question, Records
from app.store.changes import Horizon, Span
from app.store.database import Database
from app.store.rows import delivery_from_row, outcome_from_row
from app.store.schema import deliveries, drift, drift_deliveries, outcomes, positions

MOST = 1000  # of a kind, product and integration; what comes beyond is counted as others
BATCH = 500  # outcomes a step
READ_SECONDS = 2.0  # of a step for reading deliveries again
STREAM_ROWS = 50

_NAME = "drift"
_KEY = (drift.c.kind, drift.c.product, drift.c.integration, drift.c.field, drift.c.value)

Interpret = Callable[[Delivery], Reading]


class _Shown(NamedTuple):
    """What one delivery shows that is new."""

    delivery_id: UUID
    received_at: datetime
    integration: str
    product: str
    new: list[Novelty]


class _Item(NamedTuple):
    """A row of drift, by what tells it from others."""

    kind: DriftKind
    product: str
    integration: str
    field: str
    value: str

    @property
    def id(self) -> UUID:
        return UUID(bytes=hashlib.sha256(json.dumps(self).encode()).digest()[:16])

    @property
    def group(self) -> tuple[str, str, str]:
        return (self.kind.value, self.product, self.integration)

    @property
    def others(self) -> _Item:
        return self._replace(**others(self.kind)._asdict())


@dataclass(slots=True)
class _Tally:
    count: int = 0
    seen: list[tuple[datetime, UUID]] = field(default_factory=list)  # the earliest, and the latest


class _Position(NamedTuple):
    """`walked` is the last outcome of the walk, None once it is done; `span` what is left of the journal."""

    walked: UUID | None
    span: Span

    def written(self) -> list[Any]:
        return [self.walked and str(self.walked), *self.span]

    @classmethod
    def read(cls, written: list[Any]) -> _Position:
        walked, seen, upto, *rest = written
        (end, running), (upto_end, upto_running) = seen, upto
        span = Span(Horizon(end, tuple(running)), Horizon(upto_end, tuple(upto_running)), *rest)
        return cls(UUID(walked) if walked else None, span)


def advance(database: Database, interpret: Interpret) -> bool:
    """One step; False where all that is there has been counted. Raises `StoreUnavailable`."""
    position = _position(database)
    ids, then = _next(database, position)
    if not ids and then == position:
        return False
    shown, is_whole = _look(database, interpret, ids)
    _write(database, position, then if is_whole else position, shown)
    return True


def count_items(database: Database) -> int:
    """How many things are known to be new."""
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(drift)).scalar_one()


def list_drift(
    database: Database, since: datetime | None = None, among: Mapping[str, Sequence[str]] | None = None
) -> list[dict[str, Any]]:
    """The newest first; those first shown since then, whose columns have one of the values."""
    statement = select(*(column for column in drift.c if column.name != "id"))
    if since:
        statement = statement.where(drift.c.first_at >= since)
    for name, values in (among or {}).items():
        statement = statement.where(drift.c[name].in_(values))
    with database.reading() as connection:
        rows = connection.execute(statement.order_by(drift.c.first_at.desc(), drift.c.id)).mappings()
        return [dict(row) for row in rows]


# --- where to go on


def _position(database: Database) -> _Position:
    """The stored one; the first time the walk begins, and the journal from now on is for later."""
    stored = select(positions.c.position).where(positions.c.name == _NAME)
    with database.reading() as connection:
        written = connection.execute(stored).scalar()
    if written:
        return _Position.read(written)
    now = changes.horizon(database)
    first = _Position(UUID(int=0), Span(now, now))
    try:
        with database.writing() as connection:
            connection.execute(insert(positions).values(name=_NAME, position=first.written()))
    except StoreRefused:  # another has just begun
        return _position(database)
    return first


def _next(database: Database, position: _Position) -> tuple[list[UUID], _Position]:
    """The outcomes to look at, and the position behind them."""
    if position.walked is None:
        return _changed(database, position)
    statement = select(outcomes.c.id).where(outcomes.c.id > position.walked).order_by(outcomes.c.id).limit(BATCH)
    with database.reading() as connection:
        ids = list(connection.execute(statement).scalars())
    return ids, position._replace(walked=ids[-1] if ids else None)


def _changed(database: Database, position: _Position) -> tuple[list[UUID], _Position]:
    """Of the journal; a span at its end is followed by the one up to now, unless nothing is in it."""
    ids, span = _pages(database, position.span)
    if not ids:
        ids, span = _pages(database, Span(position.span.upto, changes.horizon(database)))
    return list(ids), position._replace(span=span) if ids else position


def _pages(database: Database, span: Span) -> tuple[set[UUID], Span]:
    ids: set[UUID] = set()
    while len(ids) < BATCH and (found := changes.page(database, span)):
        ids.update(one for change in found for one in change.outcome_ids)
        span = span._replace(id=found[-1].id + 1)
    return ids, span


# --- what is new


def _look(database: Database, interpret: Interpret, ids: Collection[UUID]) -> tuple[list[_Shown], bool]:
    """What deliveries of these outcomes show, and whether that is of all of them: some take long to read."""
    shown: list[_Shown] = []
    several: list[UUID] = []
    with database.reading() as connection:
        streaming = connection.execution_options(yield_per=STREAM_ROWS)
        for row in streaming.execute(select(outcomes).where(outcomes.c.id.in_(ids))).mappings():
            outcome = outcome_from_row(row)
            if outcome.deliveries > 1 or row["first_delivery_id"] is None:
                several.append(outcome.id)
            elif new := novelties(outcome):
                at, by, product = outcome.received_at, outcome.integration, outcome.product.value
                shown.append(_Shown(row["first_delivery_id"], at, by, product, new))
        if not several:
            return shown, True
        until = time.monotonic() + READ_SECONDS
        with streaming.execute(_uncounted(several)) as found:
            for row in found.mappings():
                shown.append(_read(interpret(delivery_from_row(row))))
                if time.monotonic() > until:
                    return shown, False
    return shown, True


def _uncounted(outcome_ids: list[UUID]) -> Any:
    told = where(
        Question(records=Records.DELIVERIES, conditions=[Condition("outcome_id", Operator.EQUAL, outcome_ids)])
    )
    is_counted = select(drift_deliveries.c.delivery_id).where(drift_deliveries.c.delivery_id == deliveries.c.id)
    return select(deliveries).where(*told, ~is_counted.exists())


def _read(reading: Reading) -> _Shown:
    delivery, outcome = reading.delivery, reading.outcome
    product = outcome.product.value if outcome else ""
    return _Shown(
        delivery.id, delivery.received_at, delivery.integration, product, novelties(outcome) if outcome else []
    )


# --- counting


def _write(database: Database, position: _Position, then: _Position, shown: list[_Shown]) -> None:
    """Nothing where another has moved the position; its row's lock is what lets one count at a time."""
    is_ours = (positions.c.name == _NAME) & (positions.c.position == position.written())
    with database.writing() as connection:
        if connection.execute(update(positions).where(is_ours).values(position=then.written())).rowcount == 0:
            return
        fresh = _mark(connection, shown)
        _count(connection, [one for one in shown if one.delivery_id in fresh and one.new])


def _mark(connection: Connection, shown: list[_Shown]) -> set[UUID]:
    """The deliveries that have not been counted before; now they are."""
    ids = {one.delivery_id for one in shown}
    marked = drift_deliveries.c.delivery_id
    fresh = ids - set(connection.execute(select(marked).where(marked.in_(ids))).scalars())
    if fresh:
        connection.execute(insert(drift_deliveries), [{"delivery_id": one} for one in fresh])
    return fresh


def _count(connection: Connection, shown: list[_Shown]) -> None:
    known = _known(connection, {item.id for one in shown for item in _items(one)})
    admitted = _admitted(connection, shown, known)
    tallies: dict[_Item, _Tally] = {}
    for one in shown:
        for item in {item if item in admitted else item.others for item in _items(one)}:
            tally = tallies.setdefault(item, _Tally())
            tally.count += 1
            tally.seen.append((one.received_at, one.delivery_id))
            tally.seen = [min(tally.seen), max(tally.seen)]
    known |= _known(connection, {item.id for item in tallies})
    for item, tally in tallies.items():
        _add(connection, item, tally, known.get(item.id))


def _items(one: _Shown) -> Iterator[_Item]:
    return (_Item(new.kind, one.product, one.integration, new.field, new.value) for new in one.new)


def _known(connection: Connection, ids: set[UUID]) -> dict[UUID, Any]:
    return {
        row.id: row for part in _parts(ids) for row in connection.execute(select(drift).where(drift.c.id.in_(part)))
    }


def _parts(ids: set[UUID]) -> Iterator[list[UUID]]:
    """No statement has room for any number of values."""
    whole = list(ids)
    return (whole[start : start + 5000] for start in range(0, len(whole), 5000))


def _admitted(connection: Connection, shown: list[_Shown], known: dict[UUID, Any]) -> set[_Item]:
    """What is counted by its name: what was so far, and as many others as there is room for."""
    group = _KEY[:3]
    rows = connection.execute(select(*group, func.count()).group_by(*group))
    used = Counter({(kind, product, integration): count for kind, product, integration, count in rows})
    admitted: set[_Item] = set()
    for item in (item for one in shown for item in _items(one)):
        if item in admitted:
            continue
        is_new = item.id not in known and item != item.others
        if is_new and used[item.group] >= MOST:
            continue
        used[item.group] += is_new
        admitted.add(item)
    return admitted


def _add(connection: Connection, item: _Item, tally: _Tally, row: Any) -> None:
    seen = sorted([*tally.seen, *([(row.first_at, row.delivery_id)] if row else [])])
    first_at, delivery_id = seen[0]
    last_at = max(tally.seen[-1][0], row.last_at) if row else tally.seen[-1][0]
    told = {"first_at": first_at, "last_at": last_at, "delivery_id": delivery_id}
    if row:
        statement: Any = update(drift).where(drift.c.id == item.id)
        connection.execute(statement.values(**told, count=row.count + tally.count))
    else:
        connection.execute(insert(drift).values(id=item.id, **item._asdict(), **told, count=tally.count))
