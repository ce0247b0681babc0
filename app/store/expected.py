"""Calls that were queued: registered, given their results, and looked for once those are due.

A result takes its call within its own transaction (`calls_of`, `note_results`); a call that is registered later takes
its result (`find_results`). Where both happen in the same moment neither sees the other, so whoever looks for a
result that is due looks here first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from app.errors import Contradicts
from app.expected import call_of, completed, references_of
from app.model import CallState, ExpectedCall, Outcome
from app.store import changes
from app.store.bulk import insert_rows
from app.store.database import Database
from app.store.query.question import Records
from app.store.rows import Row, outcome_from_row
from app.store.schema import NAMELESS, expected_calls, outcomes
from app.store.types import to_json

AT_ONCE = 200  # in one transaction

_STATED = ("reference", "call_id", "phone_number", "batch", "ends_at")
_MERGED = ", ".join(f"{name} = coalesce(expected_calls.{name}, excluded.{name})" for name in (*_STATED, "queued_at"))
_REGISTER = (
    f"ON CONFLICT (id) DO UPDATE SET {_MERGED}, "
    "metadata = CASE expected_calls.metadata WHEN '{}' THEN excluded.metadata ELSE expected_calls.metadata END, "
    "due_at = CASE WHEN expected_calls.due_at IS NULL OR expected_calls.ends_at IS NOT NULL "
    "THEN expected_calls.due_at ELSE coalesce(excluded.ends_at, expected_calls.due_at) END RETURNING id"
)
_FIND = " UNION ALL ".join(
    f"SELECT id FROM expected_calls WHERE {name} {{among}} AND {condition}"  # noqa: S608
    for name, condition in {
        "reference": "reference IS NOT NULL",
        "call_id": "call_id IS NOT NULL",
        "outcome_id": "outcome_id IS NOT NULL",
        "phone_number": NAMELESS,
    }.items()
)
_FIND_SQLITE = _FIND.format(among="IN (SELECT value FROM json_each(?))")
_FIND_POSTGRESQL = _FIND.format(among="= ANY(%s)")


# --- registering


def register(database: Database, calls: Sequence[ExpectedCall]) -> list[dict[str, Any]]:
    """The calls' records, as they are then. The same again changes nothing; what was not known yet is filled in.

    Raises `Contradicts` where a call is known with other values. Those before it in the list are registered then.
    """
    found: list[dict[str, Any]] = []
    for start in range(0, len(calls), AT_ONCE):
        some = calls[start : start + AT_ONCE]
        ids = [call.id for call in some]
        with database.writing() as connection:
            _insert(connection, some)
        find_results(database, ids)
        stored = _by_id(database, ids)
        found += [stored[key] for key in ids]
    return found


def _insert(connection: Connection, calls: Sequence[ExpectedCall]) -> None:
    rows = {call.id: call._replace(due_at=call.ends_at or call.registered_at) for call in calls}
    insert_rows(connection, expected_calls, [rows[key] for key in sorted(rows)], _REGISTER)
    stored = {call.id: call for call in calls_where(connection, expected_calls.c.id.in_(rows))}
    for call in calls:
        known = stored[call.id]
        for name in (*_STATED, "metadata"):
            if getattr(call, name) and getattr(call, name) != getattr(known, name):
                whose = f"reference {call.reference}" if call.reference else f"call id {call.call_id}"
                raise Contradicts(f"the call with the {whose} is known already, with another {name}")


def _by_id(database: Database, ids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
    statement = select(*Records.EXPECTED_CALLS.columns).where(expected_calls.c.id.in_(ids))
    with database.reading() as connection:
        return {row["id"]: dict(row) for row in connection.execute(statement).mappings()}


# --- results


def calls_of(connection: Connection, results: Mapping[UUID, Outcome]) -> dict[UUID, ExpectedCall]:
    """The expected calls of these outcomes, by the outcomes' ids."""
    ids = _find(connection, results.values())
    calls = calls_where(connection, expected_calls.c.id.in_(ids)) if ids else []
    found = {key: call_of(outcome, calls) for key, outcome in results.items()} if calls else {}
    return {key: call for key, call in found.items() if call}


def _find(connection: Connection, results: Collection[Outcome]) -> set[UUID]:
    """Calls that may be those of these outcomes. It is on the path of every callback: one statement, as it is."""
    is_sqlite = connection.dialect.name == "sqlite"
    named = (
        [one for outcome in results for one in references_of(outcome)],
        [outcome.call_id for outcome in results if outcome.call_id is not None],
        [outcome.id.hex if is_sqlite else outcome.id for outcome in results],
        [outcome.phone_number for outcome in results if outcome.phone_number and outcome.batch],
    )
    values = tuple(map(to_json, named)) if is_sqlite else named
    rows = connection.exec_driver_sql(_FIND_SQLITE if is_sqlite else _FIND_POSTGRESQL, values).all()
    return {UUID(row[0]) if is_sqlite else row[0] for row in rows}


def note_results(connection: Connection, calls: Mapping[UUID, ExpectedCall], polled: Collection[UUID]) -> None:
    """Say of these calls, by their outcomes' ids, that their results are there; of `polled` ones only by asking."""
    for outcome_id, call in sorted(calls.items()):
        state = CallState.POLLED if outcome_id in polled else CallState.RECEIVED
        if call.state not in (CallState.RECEIVED, state):
            statement = update(expected_calls).where(expected_calls.c.id == call.id)
            connection.execute(statement.values(outcome_id=outcome_id, state=state, due_at=None))


def find_results(database: Database, ids: Collection[UUID]) -> set[UUID]:
    """Give these calls the results that are there already; the ids of those that have one."""
    with database.writing() as connection:
        calls = calls_where(connection, expected_calls.c.id.in_(ids))
        results = {outcome.id: outcome for outcome in _results(connection, calls)}
        found = {key: call for key, outcome in results.items() if (call := call_of(outcome, calls))}
        changed = [key for key in sorted(found) if _complete(connection, results[key], found[key])]
        polled = {call.outcome_id for call in calls if call.state is CallState.POLLED}
        note_results(connection, found, {key for key in found if key in polled})
        changes.note(connection, changed)
        return {call.id for call in found.values()}


def release(connection: Connection, outcome_ids: Collection[UUID]) -> None:
    """These outcomes are gone: their calls wait again."""
    statement = update(expected_calls).where(expected_calls.c.outcome_id.in_(outcome_ids))
    connection.execute(
        statement.values(outcome_id=None, state=CallState.WAITING, due_at=expected_calls.c.registered_at)
    )


def _results(connection: Connection, calls: Sequence[ExpectedCall]) -> Iterator[Outcome]:
    """Whatever may be a result of one of them, by what outcomes are looked up by."""
    ids = [call.id for call in calls] + [call.outcome_id for call in calls if call.outcome_id]
    for field, values in (
        ("id", ids),
        ("call_id", [call.call_id for call in calls]),
        ("message_reference", [call.reference for call in calls]),
        ("phone_number", [call.phone_number for call in calls if call.reference is None and call.call_id is None]),
    ):
        wanted = {value for value in values if value is not None}
        if wanted:
            rows = connection.execute(select(outcomes).where(outcomes.c[field].in_(wanted))).mappings()
            yield from map(outcome_from_row, rows)


def _complete(connection: Connection, outcome: Outcome, call: ExpectedCall) -> bool:
    """Whether the outcome lacked something. One that changes at the same time keeps what it says itself."""
    if completed(outcome, call) == outcome:
        return False
    own = outcomes.c
    statement = update(outcomes).where(own.id == outcome.id)
    connection.execute(
        statement.values(
            call_id=func.coalesce(own.call_id, call.call_id),
            phone_number=func.coalesce(own.phone_number, call.phone_number),
            metadata=call.metadata,
        )
    )
    return True


def calls_where(connection: Connection, which: ColumnElement[bool]) -> list[ExpectedCall]:
    """All for which this holds."""
    columns = [expected_calls.c[name] for name in ExpectedCall._fields]
    return [_call(row) for row in connection.execute(select(*columns).where(which)).mappings()]


def _call(row: Row) -> ExpectedCall:
    values = {name: row[name] for name in ExpectedCall._fields}
    return ExpectedCall(**values | {"state": CallState(row["state"])})


# --- queueing


def note_queued(database: Database, ids: Sequence[UUID], call_id: str | None, now: datetime) -> None:
    """Plum has taken these calls; `call_id` is the one that it gave to a single one."""
    with database.writing() as connection:
        values = {"queued_at": now} | ({"call_id": call_id} if call_id else {})
        connection.execute(update(expected_calls).where(expected_calls.c.id.in_(ids)).values(values))
    if call_id:
        find_results(database, ids)  # it may have come before its call id was known


def forget(database: Database, ids: Sequence[UUID]) -> None:
    """These calls are not expected after all: Plum did not take them."""
    with database.writing() as connection:
        connection.execute(
            delete(expected_calls).where(expected_calls.c.id.in_(ids), expected_calls.c.outcome_id.is_(None))
        )


def get_calls(database: Database, ids: Collection[UUID]) -> dict[UUID, ExpectedCall]:
    """Those of these that are registered."""
    with database.reading() as connection:
        return {call.id: call for call in calls_where(connection, expected_calls.c.id.in_(ids))}
