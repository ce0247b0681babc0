"""Reprocesses stored deliveries: parses them with today's normaliser and folds their outcomes again.

Each transaction processes one batch. A new reading may belong to another outcome than before; both outcomes, the old
and the new one, are then folded again from all their deliveries. An outcome some of whose deliveries were pruned
stays unchanged.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, and_, delete, func, select, tuple_, union_all, update

from app.call_matching import completed
from app.model import Delivery, Identity, Outcome, Reading, Verdict, has_content_coding
from app.normalise import fold
from app.store import expected, journal
from app.store.bulk import insert_rows
from app.store.database import Database
from app.store.query.conditions import where
from app.store.query.question import Question, Records
from app.store.readings import OutcomeReading, first_columns, judge, lock_bodies, polled
from app.store.rows import delivery_from_row, delivery_row, outcome_from_row, outcome_row, outcome_values
from app.store.schema import deliveries, is_later, outcomes

BATCH = 200
MAX_BATCH_BYTES = 8 << 20  # of bodies: all readings of a batch are in memory
ENCODED_BYTES = 1 << 20  # for which a compressed body counts, since its true size is known only once it is inflated

Interpret = Callable[[Delivery], Reading]

# Columns of a delivery that depend on its reading; the others hold the callback as it arrived.
_DERIVED = ("product", "verdict", "reason", "outcome_id", "problems", "normaliser", "digest", "later", "start_of")
_COMPARED_COLUMNS = [column.name for column in Records.OUTCOMES.columns if column.name not in ("id", "normaliser")]


@dataclass(slots=True)
class Report:
    """The result of reprocessing: the number of outcomes that differ, in total and by field."""

    last: UUID | None = None  # the last delivery processed; continue after it
    deliveries: int = 0
    outcomes: int = 0
    changed: int = 0
    made: int = 0
    removed: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    left: set[UUID] = field(default_factory=set)  # outcomes that stay unchanged: some of their deliveries were pruned
    counted: set[UUID] = field(default_factory=set)  # records that are counted, which a dry run finds unchanged again
    ahead: set[UUID] = field(default_factory=set)  # deliveries after `last` that were processed with their calls


@dataclass(slots=True)
class _Batch:
    """All deliveries of some calls with their new readings, and the outcomes as stored."""

    old: dict[UUID, Outcome] = field(default_factory=dict)
    rows: dict[UUID, dict[str, Any]] = field(default_factory=dict)  # the rows of the deliveries, by id
    readings: dict[UUID, Reading] = field(default_factory=dict)
    made: set[UUID] = field(default_factory=set)  # outcomes that did not exist before

    def leave_pruned(self) -> set[UUID]:
        """Exclude outcomes with pruned deliveries, and all outcomes connected with them by a delivery that moves;
        return their ids."""
        counts = Counter(row["outcome_id"] for row in self.rows.values())
        excluded = {key for key, outcome in self.old.items() if counts[key] < outcome.deliveries}
        moves = {key: self.calls_of(key) for key in self.rows} if excluded else {}
        while added := {call for calls in moves.values() if calls & excluded for call in calls} - excluded:
            excluded |= added
        for key in [key for key, calls in moves.items() if calls & excluded]:
            del self.rows[key], self.readings[key]
        for key in excluded & self.old.keys():
            del self.old[key]
        return excluded

    def calls_of(self, delivery_id: UUID) -> set[UUID]:
        """Return the delivery's outcomes, before and now."""
        outcome = self.readings[delivery_id].outcome
        return {self.rows[delivery_id]["outcome_id"], outcome.id if outcome else None} - {None}

    def outcome_ids(self) -> set[UUID]:
        """Return all deliveries' outcomes, before and now."""
        return {call for key in self.rows for call in self.calls_of(key)}

    def by_outcome(self) -> dict[UUID, list[OutcomeReading]]:
        """Return the readings by outcome, in the order in which they were received."""
        groups: dict[UUID, list[OutcomeReading]] = defaultdict(list)
        for reading in sorted(self.readings.values(), key=lambda item: (item.delivery.received_at, item.delivery.id)):
            if reading.outcome:
                groups[reading.outcome.id].append((reading.delivery, reading.outcome))
        return groups

    def is_settled(self, outcome_id: UUID, group: list[OutcomeReading]) -> bool:
        """True if the outcome's deliveries are the same as before, each with the same content."""
        previous_ids = {key for key, row in self.rows.items() if row["outcome_id"] == outcome_id}
        return previous_ids == {delivery.id for delivery, _ in group} and all(
            self.rows[delivery.id]["digest"] == outcome.digest for delivery, outcome in group
        )

    def first(self, outcome_id: UUID, group: list[OutcomeReading]) -> OutcomeReading:
        """Return the delivery that the outcome's row should name: the same as before if it still belongs to the
        outcome."""
        candidates = (entry for entry in group if self._is_first(outcome_id, self.rows[entry[0].id]))
        return next(candidates, group[0])

    def _is_first(self, outcome_id: UUID, row: dict[str, Any]) -> bool:
        return row["outcome_id"] == outcome_id and not row["later"]


def reprocess(
    database: Database, interpret: Interpret, question: Question, *, after: UUID | None = None, dry_run: bool = False
) -> Iterator[Report]:
    """Reprocess the deliveries of the question in the order of their ids, one transaction for each batch.

    Yields the running totals after each batch. Raises `StoreUnavailable`.
    """
    report = Report(last=after)
    while ids := _next_ids(database, question, report.last):
        # A call with thousands of deliveries is not read again for each batch of them.
        if remaining := [key for key in ids if key not in report.ahead]:
            _reprocess(database, interpret, remaining, report, dry_run=dry_run)
        report.ahead.difference_update(ids)
        report.deliveries += len(ids)
        report.last = ids[-1]
        yield report


def reprocess_one(database: Database, interpret: Interpret, delivery_id: UUID) -> None:
    """Reprocess one delivery; do nothing if it does not exist."""
    _reprocess(database, interpret, [delivery_id], Report(), dry_run=False)


def _next_ids(database: Database, question: Question, after: UUID | None) -> list[UUID]:
    """Return the ids of the next batch, fewer if their bodies are large."""
    columns = deliveries.c.id, deliveries.c.size, deliveries.c.headers
    statement = select(*columns).where(*where(question)).order_by(deliveries.c.id).limit(BATCH)
    if after:
        statement = statement.where(deliveries.c.id > after)
    with database.reading() as connection:
        rows = connection.execute(statement).all()
    sizes = accumulate(ENCODED_BYTES if has_content_coding(row.headers) else row.size for row in rows)
    return [row.id for row, size in zip(rows, sizes, strict=True) if row is rows[0] or size <= MAX_BATCH_BYTES]


class _Changed(Exception):
    """What the batch affects has changed since it was read: the transaction is rolled back and begins again."""


def _reprocess(
    database: Database, interpret: Interpret, ids: Sequence[UUID], report: Report, *, dry_run: bool
) -> None:
    while True:
        with suppress(_Changed):
            with database.reading() if dry_run else database.writing() as connection:
                _reprocess_within(connection, interpret, ids, report, dry_run=dry_run)
            return


def _reprocess_within(
    connection: Connection, interpret: Interpret, ids: Sequence[UUID], report: Report, *, dry_run: bool
) -> None:
    batch = _load_batch(connection, interpret, ids, lock=not dry_run)
    processed = set(batch.rows)
    excluded = batch.leave_pruned()
    if excluded & batch.made:
        connection.execute(delete(outcomes).where(outcomes.c.id.in_(excluded & batch.made)))
    report.left |= excluded - batch.made
    new, verdicts = _fold(batch)
    if not dry_run:
        expected.release(connection, batch.old.keys() - new.keys())
    calls = expected.calls_of(connection, new)
    new |= {key: completed(new[key], matching_calls[0]) for key, matching_calls in calls.items()}
    if not dry_run:
        _write_outcomes(connection, batch, new)
        _write_deliveries(connection, batch, verdicts)
        expected.note_results(connection, calls, polled(batch.by_outcome()))
        marked = _recount_bodies(connection, batch)
        journal.note(connection, {*batch.old, *new, *marked})
    _count(report, batch, new, verdicts)
    report.ahead |= {key for key in processed if key > ids[-1]}


# --- reading


def _load_batch(connection: Connection, interpret: Interpret, ids: Iterable[UUID], *, lock: bool) -> _Batch:
    """Read the deliveries, and all other deliveries of every outcome that they leave or join; lock those outcomes.

    Locks are taken in the order of every group of callbacks: bodies, then outcomes in the order of their ids. What is
    to be locked is known only after a first reading, and counts as read only under the locks. Raises `_Changed` if
    that is more than was locked.
    """
    if not lock:
        return _read_connected(connection, interpret, ids, set())
    interpret = cache(interpret)  # a delivery is the same in both readings
    first = _read_connected(connection, interpret, ids, set())
    bodies, outcome_ids = _nameless_bodies(first), first.outcome_ids()
    lock_bodies(connection, bodies)
    made = _lock(connection, first, sorted(outcome_ids))
    batch = _read_connected(connection, interpret, ids, made)
    if not (batch.outcome_ids() <= outcome_ids and _nameless_bodies(batch) <= bodies):
        raise _Changed
    batch.made = made & batch.by_outcome().keys()
    if without_deliveries := made - batch.made:  # which were removed between the two readings
        connection.execute(delete(outcomes).where(outcomes.c.id.in_(without_deliveries)))
    return batch


def _nameless_bodies(batch: _Batch) -> set[bytes]:
    """Return the bodies of deliveries whose outcomes, before or now, have no identity but the delivery itself."""
    nameless = {key for key, outcome in batch.old.items() if outcome.identity is Identity.NONE}
    nameless |= {key for key, group in batch.by_outcome().items() if group[0][1].identity is Identity.NONE}
    return {row["sha256"] for key, row in batch.rows.items() if batch.calls_of(key) & nameless}


def _read_connected(connection: Connection, interpret: Interpret, ids: Iterable[UUID], made: set[UUID]) -> _Batch:
    """Read the deliveries and what is connected with them; the outcomes `made` are new, not stored ones."""
    batch = _Batch()
    delivery_ids, known = set(ids), set[UUID]()
    while delivery_ids:
        _read(connection, interpret, deliveries.c.id.in_(delivery_ids), batch)
        new_ids = batch.outcome_ids() - known
        rows = connection.execute(select(outcomes).where(outcomes.c.id.in_(new_ids - made))).mappings()
        batch.old |= {row["id"]: outcome_from_row(row) for row in rows}
        known |= new_ids
        delivery_ids = set(connection.execute(_select_delivery_ids(new_ids - made)).scalars()) - batch.rows.keys()
    return batch


def _read(connection: Connection, interpret: Interpret, condition: Any, batch: _Batch) -> None:
    for row in connection.execute(select(deliveries).where(condition)).mappings():
        batch.rows[row["id"]] = dict(row)
        batch.readings[row["id"]] = _with_stored_id(interpret(delivery_from_row(row)), row["outcome_id"])


def _with_stored_id(reading: Reading, outcome_id: UUID | None) -> Reading:
    """Keep the outcome's id if its reference has characters that the store cannot hold: the id was derived from the
    original text, of which the store has only a part."""
    outcome = reading.outcome
    if outcome_id and outcome and outcome.identity is Identity.REFERENCE and "\ufffd" in (outcome.reference or ""):
        return reading._replace(outcome=outcome._replace(id=outcome_id))
    return reading


def _select_delivery_ids(outcome_ids: Iterable[UUID]) -> Select[Any]:
    ids = list(outcome_ids)
    first = select(outcomes.c.first_delivery_id.label("id")).where(
        outcomes.c.id.in_(ids), outcomes.c.first_delivery_id.is_not(None)
    )
    later = select(deliveries.c.id).where(deliveries.c.outcome_id.in_(ids), is_later)
    return select(union_all(first, later).subquery().c.id)


def _lock(connection: Connection, batch: _Batch, ids: list[UUID]) -> set[UUID]:
    """Lock these outcomes in this order, and insert those that are not there, which locks them too; return the ids
    of those inserted."""
    groups, inserted = batch.by_outcome(), set()
    no_change = update(outcomes).values(deliveries=outcomes.c.deliveries)
    for key in ids:
        while connection.execute(no_change.where(outcomes.c.id == key)).rowcount == 0 and key in groups:
            row = (*outcome_row(fold(outcome for _, outcome in groups[key])), *first_columns(groups[key][0]))
            if insert_rows(connection, outcomes, [row], "ON CONFLICT (id) DO NOTHING RETURNING id"):
                inserted.add(key)
                break
    return inserted


# --- new outcomes and verdicts


def _fold(batch: _Batch) -> tuple[dict[UUID, Outcome], dict[UUID, Verdict]]:
    """Return the folded outcomes, and the verdict of each delivery."""
    new: dict[UUID, Outcome] = {}
    verdicts = {key: reading.verdict for key, reading in batch.readings.items() if not reading.outcome}
    for outcome_id, group in batch.by_outcome().items():
        new[outcome_id] = fold(outcome for _, outcome in group)
        if batch.old.get(outcome_id) and batch.old[outcome_id].identity is new[outcome_id].identity:
            was_marked = batch.old[outcome_id].possible_duplicate
            new[outcome_id] = new[outcome_id]._replace(possible_duplicate=was_marked)
        if batch.is_settled(outcome_id, group):
            verdicts |= {delivery.id: Verdict(batch.rows[delivery.id]["verdict"]) for delivery, _ in group}
        else:
            verdicts |= {key: receipt.verdict for key, receipt in judge(group, None, []).items()}
    return new, verdicts


def _count(report: Report, batch: _Batch, new: dict[UUID, Outcome], verdicts: dict[UUID, Verdict]) -> None:
    old_ids, new_ids = batch.old.keys() - report.counted, new.keys() - report.counted
    report.outcomes += len(old_ids | new_ids)
    report.made += len(new_ids - old_ids)
    report.removed += len(old_ids - new_ids)
    report.counted |= (old_ids ^ new_ids) | {key for key in old_ids & new_ids if new[key].deliveries > 1}
    for key in old_ids & new_ids:
        differing = [name for name in _COMPARED_COLUMNS if getattr(batch.old[key], name) != getattr(new[key], name)]
        report.changed += bool(differing)
        report.fields.update(differing)
    changed = {key: verdict for key, verdict in verdicts.items() if batch.rows[key]["verdict"] != verdict}
    report.verdicts.update(verdict.value for key, verdict in changed.items() if key not in report.counted)
    report.counted |= changed.keys()


# --- writing


def _write_outcomes(connection: Connection, batch: _Batch, new: dict[UUID, Outcome]) -> None:
    groups = batch.by_outcome()
    for key in sorted(new):
        values = outcome_values(new[key])
        first = batch.first(key, groups[key])
        if batch.old.get(key) == new[key] and batch.is_settled(key, groups[key]):
            continue
        body_sha256, delivery_id = first_columns(first)
        statement = update(outcomes).where(outcomes.c.id == key)
        connection.execute(statement.values(**values, body_sha256=body_sha256, first_delivery_id=delivery_id))
    removed = batch.old.keys() - new.keys()
    if removed:
        connection.execute(delete(outcomes).where(outcomes.c.id.in_(removed)))


def _write_deliveries(connection: Connection, batch: _Batch, verdicts: dict[UUID, Verdict]) -> None:
    firsts = {batch.first(key, group)[0].id for key, group in batch.by_outcome().items()}
    for key, reading in batch.readings.items():
        row = dict(zip(deliveries.c.keys(), delivery_row(reading), strict=True))
        row |= {"verdict": verdicts[key], "later": bool(reading.outcome) and key not in firsts}
        values = {name: row[name] for name in _DERIVED}
        if all(batch.rows[key][name] == value for name, value in values.items()):
            continue
        if connection.execute(update(deliveries).where(deliveries.c.id == key).values(values)).rowcount == 0:
            raise _Changed  # the delivery was removed meanwhile


def _recount_bodies(connection: Connection, batch: _Batch) -> set[UUID]:
    """Among outcomes of identity none, mark those that share a body as possible duplicates, and unmark the others."""
    bodies = _nameless_bodies(batch)
    if not bodies:
        return set()
    body = tuple_(outcomes.c.integration, outcomes.c.body_sha256)
    integrations = {row["integration"] for row in batch.rows.values()}  # the index begins with them
    is_affected = and_(outcomes.c.integration.in_(integrations), outcomes.c.body_sha256.in_(bodies))
    repeated = (
        select(outcomes.c.integration, outcomes.c.body_sha256)
        .where(is_affected)
        .group_by(outcomes.c.integration, outcomes.c.body_sha256)
        .having(func.count() > 1)
    )
    has_duplicates = body.in_(repeated)
    changed: set[UUID] = set()
    for condition, flag in ((has_duplicates, True), (~has_duplicates, False)):
        marking = update(outcomes).where(is_affected, condition, outcomes.c.possible_duplicate.is_not(flag))
        changed |= set(connection.execute(marking.values(possible_duplicate=flag).returning(outcomes.c.id)).scalars())
    return changed
