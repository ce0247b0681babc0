"""Missing results: which calls are due, the outcome of looking for their results, and counts of missing calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, case, func, select, update

from app.model import CallState, ExpectedCall, Identity, Outcome
from app.store.database import Database
from app.store.expected import AT_ONCE, calls_where, find_results, lock_outcomes
from app.store.query.conditions import where
from app.store.query.question import Question
from app.store.schema import expected_calls, is_missing, outcomes

_IS_OPEN = (expected_calls.c.state != CallState.RECEIVED) & (expected_calls.c.state != CallState.POLLED)


def claim_due(
    database: Database, question: Question, before: datetime, until: datetime, limit: int
) -> list[ExpectedCall]:
    """Return the question's calls whose results were due `before`; no other caller gets them until `until`.

    Each call is locked in its own transaction, so that neither callbacks nor other claims have to wait or deadlock.
    """
    is_due = expected_calls.c.due_at <= before
    first = select(expected_calls.c.id).where(is_due, *where(question)).order_by(expected_calls.c.due_at).limit(limit)
    while True:
        with database.reading() as connection:
            ids = connection.execute(first).scalars().all()
        claimed = [key for key in ids if _claim(database, key, before, until)]
        if claimed or not ids:  # otherwise other callers have claimed all of these meanwhile
            with database.reading() as connection:
                return calls_where(connection, expected_calls.c.id.in_(claimed)) if claimed else []


def _claim(database: Database, key: UUID, before: datetime, until: datetime) -> bool:
    statement = update(expected_calls).where(expected_calls.c.id == key, expected_calls.c.due_at <= before)
    with database.writing() as connection:
        return connection.execute(statement.values(due_at=until)).rowcount == 1


def make_due(database: Database, question: Question, before: datetime) -> int:
    """Make missing calls due now, or, if the question filters by state, calls in any state; return their number."""
    own = expected_calls.c
    late = [_IS_OPEN, func.coalesce(own.ends_at, own.registered_at) <= before]
    if not any(condition.field == "state" for condition in question.conditions):
        late.append(own.state.in_([CallState.WAITING, CallState.MISSING]))
    with database.reading() as connection:
        ids = connection.execute(select(own.id).where(*late, *where(question)).order_by(own.id)).scalars().all()
    statement = update(expected_calls).where(own.id == bindparam("key"), _IS_OPEN)
    for batch in _batches(ids):
        with database.writing() as connection:  # sorted by id, as every transaction locks calls
            values = {"due_at": func.coalesce(own.ends_at, own.registered_at)}
            connection.execute(statement.values(values), [{"key": key} for key in batch])
    return len(ids)


def _batches(ids: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    return (ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE))


def settle(
    database: Database, call: ExpectedCall, state: CallState, polled_at: datetime | None, due_at: datetime | None
) -> None:
    """Store the new state unless the result, or the call's id, has arrived meanwhile; `due_at` is when to look next,
    None for never."""
    values: dict[str, Any] = {"state": state, "due_at": due_at, "outcome_id": None}
    if polled_at:
        values |= {"polled_at": polled_at, "polls": expected_calls.c.polls + 1}
    conditions = [
        expected_calls.c.id == call.id,
        _IS_OPEN,
        expected_calls.c.call_id.is_not_distinct_from(call.call_id),  # another is looked up at once
    ]
    with database.writing() as connection:
        connection.execute(update(expected_calls).where(*conditions).values(values))


def intend(database: Database, call: ExpectedCall, outcome_id: UUID) -> bool:
    """Link the call to the outcome that Plum's answer is about to make; return False if its result has arrived
    meanwhile.

    Otherwise another call could take the outcome for its own as soon as it is stored (`find_twin`).
    """
    is_call = expected_calls.c.id == call.id
    with database.writing() as connection:
        statement = update(expected_calls).where(is_call, expected_calls.c.state != CallState.RECEIVED)
        return connection.execute(statement.values(outcome_id=outcome_id)).rowcount == 1


def link(database: Database, call: ExpectedCall, outcome_id: UUID, polled_at: datetime) -> None:
    """Link the call to the outcome of Plum's answer, which may lack the call's id, unless its result has arrived
    meanwhile."""
    with database.writing() as connection:
        _link(connection, call, outcome_id, CallState.POLLED, polled_at)
    find_results(database, [call.id])


def link_twin(database: Database, call: ExpectedCall, outcome_id: UUID, polled_at: datetime) -> bool:
    """Link the call to an outcome that `find_twin` found; return False if it is gone or linked by now."""
    own = expected_calls.c
    with database.writing() as connection:
        if not lock_outcomes(connection, [outcome_id]):
            return False
        others = select(own.id).where(own.outcome_id == outcome_id, own.id != call.id)
        if connection.execute(others).first():
            return False
        _link(connection, call, outcome_id, CallState.RECEIVED, polled_at)
    find_results(database, [call.id])
    return True


def _link(connection: Connection, call: ExpectedCall, outcome: UUID, state: CallState, polled_at: datetime) -> None:
    own = expected_calls.c
    values = {"outcome_id": outcome, "polled_at": polled_at, "due_at": None, "polls": own.polls + 1, "state": state}
    is_open = own.state != CallState.RECEIVED
    connection.execute(update(expected_calls).where(own.id == call.id, is_open).values(values))


def find_twin(database: Database, polled: Outcome) -> UUID | None:
    """Return the id of an outcome with the same content as `polled` that identifies no call and is linked to none."""
    is_linked = select(expected_calls.c.id).where(expected_calls.c.outcome_id == outcomes.c.id).exists()
    indexed = [outcomes.c.ended_at == polled.ended_at, outcomes.c.integration == polled.integration]
    equal = [
        outcomes.c.identity == Identity.NONE,
        outcomes.c.digest == polled.digest,
        outcomes.c.id != polled.id,
        ~is_linked,
    ]
    with database.reading() as connection:
        statement = select(outcomes.c.id).where(*indexed, *equal).order_by(outcomes.c.id).limit(1)
        return connection.execute(statement).scalar()


def count_states(database: Database, question: Question, before: datetime) -> list[dict[str, Any]]:
    """Count the calls by integration, batch and state; calls that were due `before` count as missing."""
    own = expected_calls.c
    is_late = (own.state == CallState.WAITING) & (func.coalesce(own.ends_at, own.registered_at) <= before)
    state = case((is_late, CallState.MISSING.value), else_=own.state).label("state")
    is_nameless = (own.reference.is_(None) & own.call_id.is_(None)).label("is_nameless")
    groups = [own.integration, own.batch, state, is_nameless]
    statement = select(*groups, func.count().label("count")).where(*where(question)).group_by(*groups)
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def count_linked(database: Database, integrations: Sequence[str]) -> dict[tuple[str, str | None], int]:
    """Count by integration and batch the outcomes of the identity `none` that are results of known calls."""
    own, among = outcomes.c, [expected_calls.c.integration.in_(integrations), outcomes.c.identity == Identity.NONE]
    linked = select(own.integration, own.batch, func.count(own.id.distinct()).label("count")).where(*among)
    statement = linked.join(expected_calls, expected_calls.c.outcome_id == own.id).group_by(
        own.integration, own.batch
    )
    with database.reading() as connection:
        rows = connection.execute(statement).mappings()
        return {(row["integration"], row["batch"]): row["count"] for row in rows}


def count_missing(database: Database) -> int:
    """Count all calls past their window without a result; uses an index."""
    statement = select(func.count()).select_from(expected_calls).where(is_missing)
    with database.reading() as connection:
        return connection.execute(statement).scalar_one()


def count_by_state(database: Database) -> dict[CallState, int]:
    """Count all calls by their state when they were last looked for; reads all of them."""
    statement = select(expected_calls.c.state, func.count()).group_by(expected_calls.c.state)
    with database.reading() as connection:
        return {CallState(state): count for state, count in connection.execute(statement)}
