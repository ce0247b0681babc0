"""Stored deliveries through today's normaliser: outcomes are made again from all their deliveries.

One transaction takes a batch of deliveries. A reading may name another call than it did, so both outcomes, the one it
leaves and the one it comes to, are folded anew, each from everything received about it. An outcome some of whose
deliveries were pruned stays as it is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, delete, func, select, tuple_, union_all, update

from app.call_matching import completed
from app.model import Delivery, Identity, Outcome, Reading, Verdict
from app.normalise import fold
from app.store import expected, journal
from app.store.bulk import insert_rows
from app.store.database import Database
from app.store.query.conditions import where
from app.store.query.question import Question, Records
from app.store.readings import OutcomeReading, first_columns, judge, polled
from app.store.rows import delivery_from_row, delivery_row, outcome_from_row, outcome_row, outcome_values
from app.store.schema import deliveries, is_later, outcomes

BATCH = 200

Interpret = Callable[[Delivery], Reading]

# What a reading makes of a delivery's row; the rest is the callback as it came.
_UNDERSTOOD = ("product", "verdict", "reason", "outcome_id", "problems", "normaliser", "digest", "later", "start_of")
_COMPARED = [column.name for column in Records.OUTCOMES.columns if column.name not in ("id", "normaliser")]


@dataclass(slots=True)
class Report:
    """What reading again came to: how many outcomes differ, and in how many of them each field does."""

    last: UUID | None = None  # the delivery behind which to go on
    deliveries: int = 0
    outcomes: int = 0
    changed: int = 0
    made: int = 0
    removed: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    left: set[UUID] = field(default_factory=set)  # outcomes as they were, since not all their deliveries are kept
    told: set[UUID] = field(default_factory=set)  # what a dry run's later batches find as it was


@dataclass(slots=True)
class _Batch:
    """Everything received about some calls, read again, and their outcomes as they were."""

    old: dict[UUID, Outcome] = field(default_factory=dict)
    rows: dict[UUID, dict[str, Any]] = field(default_factory=dict)  # the deliveries', by id
    readings: dict[UUID, Reading] = field(default_factory=dict)
    made: set[UUID] = field(default_factory=set)  # outcomes that were not there

    def leave_pruned(self) -> set[UUID]:
        """Pass over outcomes that have fewer deliveries than they had, and all that these would come from or go to;
        the ids of all outcomes that are passed over."""
        kept = Counter(row["outcome_id"] for row in self.rows.values())
        left = {key for key, outcome in self.old.items() if kept[key] < outcome.deliveries}
        between = {key: self._calls_of(key) for key in self.rows} if left else {}
        while more := {call for calls in between.values() if calls & left for call in calls} - left:
            left |= more
        for key in [key for key, calls in between.items() if calls & left]:
            del self.rows[key], self.readings[key]
        for key in left & self.old.keys():
            del self.old[key]
        return left

    def _calls_of(self, delivery_id: UUID) -> set[UUID]:
        """The outcome that it told of, and the one that it tells of now."""
        outcome = self.readings[delivery_id].outcome
        return {self.rows[delivery_id]["outcome_id"], outcome.id if outcome else None} - {None}

    def by_outcome(self) -> dict[UUID, list[OutcomeReading]]:
        """By outcome, in the order received."""
        told: dict[UUID, list[OutcomeReading]] = defaultdict(list)
        for reading in sorted(self.readings.values(), key=lambda one: (one.delivery.received_at, one.delivery.id)):
            if reading.outcome:
                told[reading.outcome.id].append((reading.delivery, reading.outcome))
        return told

    def is_settled(self, outcome_id: UUID, group: list[OutcomeReading]) -> bool:
        """Whether its deliveries are those that it had, and each still says the same."""
        had = {key for key, row in self.rows.items() if row["outcome_id"] == outcome_id}
        return had == {delivery.id for delivery, _ in group} and all(
            self.rows[delivery.id]["digest"] == outcome.digest for delivery, outcome in group
        )

    def first(self, outcome_id: UUID, group: list[OutcomeReading]) -> OutcomeReading:
        """The delivery that its row names: the one that it named before, if that still tells of it."""
        named = (one for one in group if self._is_first(outcome_id, self.rows[one[0].id]))
        return next(named, group[0])

    def _is_first(self, outcome_id: UUID, row: dict[str, Any]) -> bool:
        return row["outcome_id"] == outcome_id and not row["later"]


def reprocess(
    database: Database, interpret: Interpret, question: Question, *, after: UUID | None = None, dry_run: bool = False
) -> Iterator[Report]:
    """Read the deliveries asked for again, in the order of their ids, a batch a transaction.

    Gives after each batch what all came to so far. Raises `StoreUnavailable`.
    """
    report = Report(last=after)
    while ids := _next_ids(database, question, report.last):
        with database.reading() if dry_run else database.writing() as connection:
            _reprocess(connection, interpret, ids, report, dry_run=dry_run)
        report.last = ids[-1]
        yield report


def reprocess_one(database: Database, interpret: Interpret, delivery_id: UUID) -> None:
    """Read this one again. Nothing happens if there is none."""
    with database.writing() as connection:
        _reprocess(connection, interpret, [delivery_id], Report(), dry_run=False)


def _next_ids(database: Database, question: Question, after: UUID | None) -> list[UUID]:
    statement = select(deliveries.c.id).where(*where(question)).order_by(deliveries.c.id).limit(BATCH)
    if after:
        statement = statement.where(deliveries.c.id > after)
    with database.reading() as connection:
        return list(connection.execute(statement).scalars())


def _reprocess(
    connection: Connection, interpret: Interpret, ids: Sequence[UUID], report: Report, *, dry_run: bool
) -> None:
    batch = _closed(connection, interpret, ids, lock=not dry_run)
    left = batch.leave_pruned()
    if left & batch.made:
        connection.execute(delete(outcomes).where(outcomes.c.id.in_(left & batch.made)))
    report.left |= left - batch.made
    new, verdicts = _understood(batch)
    if not dry_run:
        expected.release(connection, batch.old.keys() - new.keys())
    calls = expected.calls_of(connection, new)
    new |= {key: completed(new[key], mine[0]) for key, mine in calls.items()}
    _tell(report, len(ids), batch, new, verdicts)
    if not dry_run:
        _write_outcomes(connection, batch, new)
        _write_deliveries(connection, batch, verdicts)
        expected.note_results(connection, calls, polled(batch.by_outcome()))
        marked = _recount_bodies(connection, batch, new)
        journal.note(connection, {*batch.old, *new, *marked})


# --- reading


def _closed(connection: Connection, interpret: Interpret, ids: Iterable[UUID], *, lock: bool) -> _Batch:
    """The deliveries, and all others of every outcome that they leave or come to; those outcomes are locked.

    An outcome that is to be made is made at once, which locks it too: a callback about it has to wait.
    """
    batch = _Batch()
    wanted, known = set(ids), set[UUID]()
    while wanted:
        _read(connection, interpret, deliveries.c.id.in_(wanted), batch)
        named = {row["outcome_id"] for row in batch.rows.values()} | set(batch.by_outcome())
        fresh = named - known - {None}
        if lock:
            batch.made |= _lock(connection, batch, sorted(fresh))
        rows = connection.execute(select(outcomes).where(outcomes.c.id.in_(fresh - batch.made))).mappings()
        batch.old |= {row["id"]: outcome_from_row(row) for row in rows}
        known |= fresh
        wanted = set(connection.execute(_all_of(fresh)).scalars()) - batch.rows.keys()
    return batch


def _read(connection: Connection, interpret: Interpret, which: Any, batch: _Batch) -> None:
    for row in connection.execute(select(deliveries).where(which)).mappings():
        batch.rows[row["id"]] = dict(row)
        batch.readings[row["id"]] = _same_reference(interpret(delivery_from_row(row)), row["outcome_id"])


def _same_reference(reading: Reading, outcome_id: UUID | None) -> Reading:
    """A reference with characters that no store holds is kept in part; its outcome's id was made of the whole."""
    outcome = reading.outcome
    if outcome_id and outcome and outcome.identity is Identity.REFERENCE and "\ufffd" in (outcome.reference or ""):
        return reading._replace(outcome=outcome._replace(id=outcome_id))
    return reading


def _all_of(outcome_ids: Iterable[UUID]) -> Select[Any]:
    ids = list(outcome_ids)
    first = select(outcomes.c.first_delivery_id.label("id")).where(
        outcomes.c.id.in_(ids), outcomes.c.first_delivery_id.is_not(None)
    )
    later = select(deliveries.c.id).where(deliveries.c.outcome_id.in_(ids), is_later)
    return select(union_all(first, later).subquery().c.id)


def _lock(connection: Connection, batch: _Batch, ids: list[UUID]) -> set[UUID]:
    """In the order of the ids, as every group of callbacks does it; the ids of those that had to be made."""
    told, made = batch.by_outcome(), set()
    change_nothing = update(outcomes).values(deliveries=outcomes.c.deliveries)
    for key in ids:
        if connection.execute(change_nothing.where(outcomes.c.id == key)).rowcount == 0 and key in told:
            row = (*outcome_row(fold(outcome for _, outcome in told[key])), *first_columns(told[key][0]))
            if insert_rows(connection, outcomes, [row], "ON CONFLICT (id) DO NOTHING RETURNING id"):
                made.add(key)
    return made


# --- what it comes to


def _understood(batch: _Batch) -> tuple[dict[UUID, Outcome], dict[UUID, Verdict]]:
    """The outcomes anew, and what each delivery did to its own."""
    new: dict[UUID, Outcome] = {}
    verdicts = {key: reading.verdict for key, reading in batch.readings.items() if not reading.outcome}
    for outcome_id, group in batch.by_outcome().items():
        new[outcome_id] = fold(outcome for _, outcome in group)
        if batch.old.get(outcome_id) and batch.old[outcome_id].identity is new[outcome_id].identity:
            marked = batch.old[outcome_id].possible_duplicate
            new[outcome_id] = new[outcome_id]._replace(possible_duplicate=marked)
        if batch.is_settled(outcome_id, group):
            verdicts |= {delivery.id: Verdict(batch.rows[delivery.id]["verdict"]) for delivery, _ in group}
        else:
            verdicts |= {key: receipt.verdict for key, receipt in judge(group, None, []).items()}
    return new, verdicts


def _tell(report: Report, count: int, batch: _Batch, new: dict[UUID, Outcome], verdicts: dict[UUID, Verdict]) -> None:
    report.deliveries += count
    old, fresh = batch.old.keys() - report.told, new.keys() - report.told
    report.outcomes += len(old | fresh)
    report.made += len(fresh - old)
    report.removed += len(old - fresh)
    report.told |= (old ^ fresh) | {key for key in old & fresh if new[key].deliveries > 1}
    for key in old & fresh:
        differing = [name for name in _COMPARED if getattr(batch.old[key], name) != getattr(new[key], name)]
        report.changed += bool(differing)
        report.fields.update(differing)
    changed = {key: verdict for key, verdict in verdicts.items() if batch.rows[key]["verdict"] != verdict}
    report.verdicts.update(verdict.value for key, verdict in changed.items() if key not in report.told)
    report.told |= changed.keys()


# --- writing


def _write_outcomes(connection: Connection, batch: _Batch, new: dict[UUID, Outcome]) -> None:
    told = batch.by_outcome()
    for key in sorted(new):
        values = outcome_values(new[key])
        first = batch.first(key, told[key])
        if batch.old.get(key) == new[key] and batch.is_settled(key, told[key]):
            continue
        body_sha256, delivery_id = first_columns(first)
        statement = update(outcomes).where(outcomes.c.id == key)
        connection.execute(statement.values(**values, body_sha256=body_sha256, first_delivery_id=delivery_id))
    gone = batch.old.keys() - new.keys()
    if gone:
        connection.execute(delete(outcomes).where(outcomes.c.id.in_(gone)))


def _write_deliveries(connection: Connection, batch: _Batch, verdicts: dict[UUID, Verdict]) -> None:
    firsts = {batch.first(key, group)[0].id for key, group in batch.by_outcome().items()}
    for key, reading in batch.readings.items():
        made = dict(zip(deliveries.c.keys(), delivery_row(reading), strict=True))
        made |= {"verdict": verdicts[key], "later": bool(reading.outcome) and key not in firsts}
        values = {name: made[name] for name in _UNDERSTOOD}
        if any(batch.rows[key][name] != value for name, value in values.items()):
            connection.execute(update(deliveries).where(deliveries.c.id == key).values(values))


def _recount_bodies(connection: Connection, batch: _Batch, new: dict[UUID, Outcome]) -> set[UUID]:
    """Of identity none, those with a body that another has too are possible duplicates; the others are not."""
    nameless = {key for known in (batch.old, new) for key, one in known.items() if one.identity is Identity.NONE}
    told = {key: reading.outcome and reading.outcome.id for key, reading in batch.readings.items()}
    bodies = {row["sha256"] for key, row in batch.rows.items() if nameless & {row["outcome_id"], told[key]}}
    if not bodies:
        return set()
    body = tuple_(outcomes.c.integration, outcomes.c.body_sha256)
    counted = (
        select(outcomes.c.integration, outcomes.c.body_sha256)
        .where(outcomes.c.body_sha256.in_(bodies))
        .group_by(outcomes.c.integration, outcomes.c.body_sha256)
        .having(func.count() > 1)
    )
    several = body.in_(counted)
    among = outcomes.c.body_sha256.in_(bodies)
    changed: set[UUID] = set()
    for which, flag in ((several, True), (~several, False)):
        marking = update(outcomes).where(among, which, outcomes.c.possible_duplicate.is_not(flag))
        changed |= set(connection.execute(marking.values(possible_duplicate=flag).returning(outcomes.c.id)).scalars())
    return changed
