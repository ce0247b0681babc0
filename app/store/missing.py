"""Results that did not come: which calls are due, what looking for them came to, and how many are missing."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, select, update

from app.model import CallState, ExpectedCall
from app.store.database import Database
from app.store.expected import calls_where, find_results
from app.store.query.conditions import where
from app.store.query.question import Question
from app.store.schema import expected_calls


def claim_due(
    database: Database, question: Question, before: datetime, until: datetime, limit: int
) -> list[ExpectedCall]:
    """The calls of the question whose results were due `before`; nobody else gets them until `until`."""
    is_due = expected_calls.c.due_at <= before
    first = select(expected_calls.c.id).where(is_due, *where(question)).order_by(expected_calls.c.due_at).limit(limit)
    with database.writing() as connection:
        ids = connection.execute(first).scalars().all()
        claim = update(expected_calls).where(expected_calls.c.id.in_(ids), is_due).values(due_at=until)
        claimed = connection.execute(claim.returning(expected_calls.c.id)).scalars().all()
        return calls_where(connection, expected_calls.c.id.in_(claimed))


def make_due(database: Database, question: Question, before: datetime) -> None:
    """Let those that are missing, or refused where these are asked for, be looked for now."""
    own = expected_calls.c
    late = [own.outcome_id.is_(None), func.coalesce(own.ends_at, own.registered_at) <= before]
    if not any(condition.field == "state" for condition in question.conditions):
        late.append(own.state.in_([CallState.WAITING, CallState.MISSING]))
    with database.writing() as connection:
        statement = update(expected_calls).where(*late, *where(question))
        connection.execute(statement.values(due_at=func.coalesce(own.ends_at, own.registered_at)))


def settle(
    database: Database, call: ExpectedCall, state: CallState, polled_at: datetime | None, due_at: datetime | None
) -> None:
    """Say what looking for the result came to, unless that has come meanwhile; the next look is `due_at`, if any."""
    values: dict[str, Any] = {"state": state, "due_at": due_at}
    if polled_at:
        values |= {"polled_at": polled_at, "polls": expected_calls.c.polls + 1}
    still = [expected_calls.c.id == call.id, expected_calls.c.state.not_in([CallState.RECEIVED, CallState.POLLED])]
    with database.writing() as connection:
        connection.execute(update(expected_calls).where(*still).values(values))


def link(database: Database, call: ExpectedCall, outcome_id: UUID, polled_at: datetime) -> None:
    """This outcome, which may not name its call, is what Plum told of it, unless its result has come meanwhile."""
    values = {"outcome_id": outcome_id, "polled_at": polled_at, "due_at": None}
    state = case((expected_calls.c.state == CallState.RECEIVED, expected_calls.c.state), else_=CallState.POLLED.value)
    with database.writing() as connection:
        statement = update(expected_calls).where(expected_calls.c.id == call.id)
        connection.execute(statement.values(**values, state=state, polls=expected_calls.c.polls + 1))
    find_results(database, [call.id])


def count_states(database: Database, question: Question, before: datetime) -> list[dict[str, Any]]:
    """How many calls are in each state, by integration and batch; those that were due `before` are missing."""
    own = expected_calls.c
    is_late = (own.state == CallState.WAITING) & (func.coalesce(own.ends_at, own.registered_at) <= before)
    state = case((is_late, CallState.MISSING.value), else_=own.state).label("state")
    is_nameless = (own.reference.is_(None) & own.call_id.is_(None)).label("is_nameless")
    groups = [own.integration, own.batch, state, is_nameless]
    statement = select(*groups, func.count().label("count")).where(*where(question)).group_by(*groups)
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def count_missing(database: Database) -> int:
    """All that are past their window without a result."""
    statement = select(func.count()).where(expected_calls.c.state == CallState.MISSING)
    with database.reading() as connection:
        return connection.execute(statement).scalar_one()
