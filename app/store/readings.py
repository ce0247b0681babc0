"""Stores readings as deliveries and outcomes; there is no other way in.

Live, spooled, imported and polled deliveries all pass through `save`. A delivery counts once, by its id, and an
outcome is the fold of its deliveries; concurrent writes cannot break either rule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, func, select, text, update

from app.errors import StoreRefused, StoreUnavailable
from app.model import Delivery, Identity, Outcome, Reading, Receipt, Verdict, Via
from app.normalise import DIGEST_HALF, fold, rank, same_reading, without_encoding
from app.store import expected, journal
from app.store.bulk import insert_rows, returned_id
from app.store.database import Database
from app.store.rows import delivery_row, outcome_from_row, outcome_row, outcome_values
from app.store.schema import deliveries, is_later, outcomes

# A delivery with the outcome that it yields alone; and a group's deliveries by outcome.
OutcomeReading = tuple[Delivery, Outcome]
ReadingsByOutcome = dict[UUID, list[OutcomeReading]]
IdsByBody = dict[tuple[str, bytes], set[UUID]]  # outcomes by their integration and body


def save(database: Database, readings: Sequence[Reading]) -> list[Receipt]:
    """Make the readings durable; return a receipt for each, in their order.

    A delivery that is stored already changes nothing and gets its first receipt. If the store refuses a delivery, the
    others are still stored: the group is split until the refused one is found, which is then quarantined. Raises
    `StoreUnavailable`.
    """
    try:
        return _save(database, readings)
    except StoreRefused:
        if len(readings) > 1:
            half = len(readings) // 2
            return save(database, readings[:half]) + save(database, readings[half:])
        if readings[0].reason:
            raise
        return _save(database, [readings[0]._replace(outcome=None, problems=(), reason="store_refused")])


def rehearse(database: Database, reading: Reading) -> None:
    """Raises `StoreUnavailable` if the reading cannot be stored now. The transaction is rolled back, so nothing is
    stored."""
    try:
        with database.writing() as connection:
            _insert_deliveries(connection, [reading])
            stored_at = connection.execute(
                select(deliveries.c.received_at).where(deliveries.c.id == reading.delivery.id)
            )
            if stored_at.scalar_one() != reading.delivery.received_at:
                raise StoreUnavailable("the store does not return what was stored")
            raise _RollBack
    except _RollBack:
        return
    except StoreUnavailable:
        raise
    except Exception as error:
        name = type(error).__name__
        raise StoreUnavailable("the store fails in an unforeseen way", f"the store fails: {name}") from error


class _RollBack(Exception):
    """Rolls the transaction of a rehearsal back."""


def _save(database: Database, readings: Sequence[Reading]) -> list[Receipt]:
    by_id = {reading.delivery.id: reading for reading in reversed(readings)}  # an id may occur twice
    with database.writing() as connection:
        new_ids = _insert_deliveries(connection, list(reversed(by_id.values())))
        by_outcome: ReadingsByOutcome = defaultdict(list)
        for reading in reversed(by_id.values()):
            if reading.outcome and reading.delivery.id in new_ids:
                by_outcome[reading.outcome.id].append((reading.delivery, reading.outcome))
        receipts = _save_outcomes(connection, by_outcome) if by_outcome else {}
        _correct_verdicts(connection, receipts)
        receipts |= _stored_receipts(connection, [r.delivery.id for r in readings if r.delivery.id not in new_ids])
        return [receipts.get(reading.delivery.id) or _without_outcome(reading) for reading in readings]


def _insert_deliveries(connection: Connection, readings: Sequence[Reading]) -> set[UUID]:
    """Insert the deliveries; return the ids of those that are new."""
    rows = [delivery_row(reading) for reading in readings]
    inserted = insert_rows(connection, deliveries, rows, "ON CONFLICT (id) DO NOTHING RETURNING id")
    if len(inserted) == len(rows):
        return {reading.delivery.id for reading in readings}
    return {returned_id(row[0]) for row in inserted}


def _save_outcomes(connection: Connection, by_outcome: ReadingsByOutcome) -> dict[UUID, Receipt]:
    nameless = _ids_by_body(by_outcome.values())
    lock_bodies(connection, {sha256 for _, sha256 in nameless})
    candidates = {key: fold(outcome for _, outcome in group) for key, group in by_outcome.items()}
    existing = _upsert(connection, candidates, by_outcome)
    results = candidates | {key: fold([before, candidates[key]]) for key, before in existing.items()}
    expected.complete(connection, results, polled(by_outcome))
    seen = _seen_digests(connection, existing, by_outcome)
    _mark_later(connection, existing, by_outcome)
    receipts: dict[UUID, Receipt] = {}
    for outcome_id, group in by_outcome.items():
        receipts |= judge(group, existing.get(outcome_id), seen[outcome_id])
    marked = _mark_possible_duplicates(connection, nameless) if nameless else set()
    journal.note(connection, {*by_outcome, *marked})
    return receipts


def polled(by_outcome: ReadingsByOutcome) -> set[UUID]:
    """Return the outcomes that only have deliveries polled from Plum."""
    return {key for key, group in by_outcome.items() if all(delivery.via is Via.POLL for delivery, _ in group)}


def _upsert(
    connection: Connection, candidates: dict[UUID, Outcome], by_outcome: ReadingsByOutcome
) -> dict[UUID, Outcome]:
    """Insert the outcomes, or fold them into stored ones; return the stored ones as they were before.

    The upsert takes the rows' locks in the order of their ids, so that two groups cannot deadlock.
    """
    rows = [
        (*outcome_row(candidates[key]), *first_columns(by_outcome[key][0])) for key in sorted(candidates, key=_number)
    ]
    add_up = "ON CONFLICT (id) DO UPDATE SET deliveries = outcomes.deliveries + excluded.deliveries"
    counts = insert_rows(connection, outcomes, rows, f"{add_up} RETURNING id, deliveries")
    counts_above_one = {returned_id(row[0]): row[1] for row in counts if row[1] > 1}
    existing_ids = [key for key, total in counts_above_one.items() if total > candidates[key].deliveries]
    if not existing_ids:
        return {}
    existing_rows = connection.execute(select(outcomes).where(outcomes.c.id.in_(existing_ids))).mappings()
    existing: dict[UUID, Outcome] = {}
    for row in existing_rows:
        stored = outcome_from_row(row)
        candidate = candidates[stored.id]
        before = stored._replace(deliveries=stored.deliveries - candidate.deliveries)
        existing[stored.id] = before
        folded = fold([before, candidate])
        if folded != stored:
            connection.execute(update(outcomes).where(outcomes.c.id == stored.id).values(outcome_values(folded)))
    return existing


_number = attrgetter("int")  # comparing UUIDs directly is slower


def _seen_digests(
    connection: Connection, existing: dict[UUID, Outcome], by_outcome: ReadingsByOutcome
) -> dict[UUID, list[str]]:
    """Return, for each outcome, the digest of the newest reading before this group, and those of the others that
    occur in the group again: a call may have a hundred thousand deliveries."""
    seen: dict[UUID, list[str]] = defaultdict(list)
    unclear = []
    for outcome_id, outcome in existing.items():
        seen[outcome_id].append(outcome.digest)
        if not all(
            same_reading(outcome.digest, reading_outcome.digest) for _, reading_outcome in by_outcome[outcome_id]
        ):
            unclear.append(outcome_id)
    if unclear:
        group_ids = [delivery.id for group in by_outcome.values() for delivery, _ in group]
        group_digests = {without_encoding(outcome.digest) for key in unclear for _, outcome in by_outcome[key]}
        occurs_again = func.substr(deliveries.c.digest, 1, DIGEST_HALF).in_(group_digests)
        later = select(deliveries.c.outcome_id, deliveries.c.digest).where(
            deliveries.c.outcome_id.in_(unclear), is_later, deliveries.c.id.not_in(group_ids), occurs_again
        )
        firsts = connection.execute(select(outcomes.c.first_delivery_id).where(outcomes.c.id.in_(unclear))).scalars()
        first = select(deliveries.c.outcome_id, deliveries.c.digest).where(deliveries.c.id.in_(firsts.all()))
        for statement in (
            first,
            later,
        ):  # separate queries, since a distributed database allows neither their join nor their union
            for outcome_id, digest in connection.execute(statement):
                seen[outcome_id].append(digest)
    return seen


def _mark_later(connection: Connection, existing: dict[UUID, Outcome], by_outcome: ReadingsByOutcome) -> None:
    """Mark the later deliveries of outcomes, since all were inserted as first ones."""
    later = [
        {"key": delivery.id}
        for key, group in by_outcome.items()
        for delivery, _ in (group if key in existing else group[1:])
    ]
    if later:
        connection.execute(update(deliveries).where(deliveries.c.id == bindparam("key")).values(later=True), later)


def judge(group: Iterable[OutcomeReading], newest: Outcome | None, seen: Iterable[str]) -> dict[UUID, Receipt]:
    """Return a receipt with the verdict of each delivery on its outcome, in their order. `seen` are the digests of
    the readings before them."""
    receipts: dict[UUID, Receipt] = {}
    known = set(map(without_encoding, seen))  # a call may have thousands of deliveries
    for delivery, outcome in group:
        verdict, disposition = Verdict.SUPERSEDED, None
        if without_encoding(outcome.digest) in known:
            verdict = Verdict.DUPLICATE
        elif newest is None or rank(outcome) > rank(newest):
            verdict = Verdict.APPLIED
            disposition = outcome.disposition if not newest or newest.disposition != outcome.disposition else None
            newest = outcome
        known.add(without_encoding(outcome.digest))
        receipts[delivery.id] = Receipt(delivery.id, verdict, outcome.id, disposition=disposition, is_new=True)
    return receipts


def _correct_verdicts(connection: Connection, receipts: dict[UUID, Receipt]) -> None:
    """Correct the verdicts that differ from `applied`, with which deliveries with outcomes are inserted."""
    others = [
        {"key": key, "is": receipt.verdict.value}
        for key, receipt in receipts.items()
        if receipt.verdict is not Verdict.APPLIED
    ]
    if others:
        statement = update(deliveries).where(deliveries.c.id == bindparam("key")).values(verdict=bindparam("is"))
        connection.execute(statement, others)


# --- possible duplicates: equal bodies of one integration, without an identity


def first_columns(first: OutcomeReading) -> tuple[bytes | None, UUID]:
    """Return the columns of an outcome's row that come from its first delivery."""
    return _body_sha256(first), first[0].id


_SAME_BODY = [outcomes.c[name] for name in ("id", "integration", "body_sha256", "possible_duplicate")]


def _body_sha256(reading: OutcomeReading) -> bytes | None:
    """Return the digest that detects possible duplicates; None if the outcome has an identity."""
    delivery, outcome = reading
    return delivery.sha256 if outcome.identity is Identity.NONE else None


def _ids_by_body(groups: Iterable[list[OutcomeReading]]) -> IdsByBody:
    """Return the outcomes without an identity by their integration and body."""
    ids: IdsByBody = defaultdict(set)
    for group in groups:
        for reading in group:
            if sha256 := _body_sha256(reading):
                delivery, outcome = reading
                ids[delivery.integration, sha256].add(outcome.id)
    return ids


def lock_bodies(connection: Connection, bodies: Iterable[bytes]) -> None:
    """Lock the bodies, so that of two transactions with the same body the second sees the first. SQLite has one
    writer anyway."""
    if connection.dialect.name != "postgresql":
        return
    locks = sorted({int.from_bytes(sha256[:8], signed=True) for sha256 in bodies})
    if locks:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(lock) FROM unnest(CAST(:locks AS bigint[])) AS lock"),
            {"locks": locks},
        )


def _mark_possible_duplicates(connection: Connection, new: IdsByBody) -> set[UUID]:
    """Mark possible duplicates; return their ids."""
    marked = _with_same_body(connection, new)
    if marked:
        connection.execute(update(outcomes).where(outcomes.c.id.in_(marked)).values(possible_duplicate=True))
    return marked


def _with_same_body(connection: Connection, new: IdsByBody) -> set[UUID]:
    """Return the new outcomes whose body another outcome has too, and those others that are not marked yet.

    It reads few rows of a body that came a hundred thousand times, as when all pending calls are canceled: of two
    older outcomes both are marked.
    """
    most = sum(len(ids) + 1 for ids in new.values()) + 1
    integrations, bodies = {name for name, _ in new}, {sha256 for _, sha256 in new}
    is_candidate = outcomes.c.integration.in_(integrations), outcomes.c.body_sha256.in_(bodies)
    rows = connection.execute(select(*_SAME_BODY).where(*is_candidate).limit(most)).all()
    if len(rows) == most and len(new) > 1:  # a frequent body may have displaced others
        return {key for one in new for key in _with_same_body(connection, {one: new[one]})}
    known: dict[tuple[str, bytes], list[Any]] = {body: [] for body in new}
    for row in rows:
        if (body := (row.integration, row.body_sha256)) in known:
            known[body].append(row)
    repeated = {body: same for body, same in known.items() if len(same) > 1}
    unmarked = {row.id for same in repeated.values() for row in same if not row.possible_duplicate}
    return unmarked.union(*(new[body] for body in repeated))


# --- receipts


def _without_outcome(reading: Reading) -> Receipt:
    return Receipt(reading.delivery.id, reading.verdict, reason=reading.reason, is_new=True)


def _stored_receipts(connection: Connection, ids: list[UUID]) -> dict[UUID, Receipt]:
    if not ids:
        return {}
    stored = select(deliveries.c.id, deliveries.c.verdict, deliveries.c.outcome_id, deliveries.c.reason)
    rows = connection.execute(stored.where(deliveries.c.id.in_(ids)))
    return {row.id: Receipt(row.id, Verdict(row.verdict), row.outcome_id, row.reason) for row in rows}
