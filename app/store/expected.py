"""Expected calls: registers queued calls and links them to their results.

A result takes its call in its own transaction (`complete`), after it has locked its outcome. A call that is
registered, or learns more, takes its result in a later transaction (`find_results`), which first waits for all
running ones. So neither misses the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, bindparam, case, delete, func, select, update

from app.call_matching import completed, matching, references_of
from app.errors import Contradicts
from app.model import CallState, ExpectedCall, Outcome
from app.store import journal
from app.store.bulk import insert_rows, returned_id
from app.store.database import Database
from app.store.query.conditions import is_any_of
from app.store.query.question import Records
from app.store.rows import Row, outcome_from_row
from app.store.schema import WITHOUT_REFERENCE, expected_calls, outcomes
from app.store.types import to_json

AT_ONCE = 200  # calls in one transaction

_STATED = ("reference", "call_id", "phone_number", "batch", "ends_at")
_MERGED = ", ".join(f"{name} = coalesce(expected_calls.{name}, excluded.{name})" for name in (*_STATED, "queued_at"))
_REGISTER = (
    f"ON CONFLICT (id) DO UPDATE SET {_MERGED}, "
    "metadata = CASE expected_calls.metadata WHEN '{}' THEN excluded.metadata ELSE expected_calls.metadata END, "
    "due_at = CASE"
    # A call without an id could not be polled; and its window may become known only now.
    " WHEN expected_calls.outcome_id IS NULL AND expected_calls.call_id IS NULL AND excluded.call_id IS NOT NULL"
    " THEN coalesce(expected_calls.ends_at, excluded.ends_at, expected_calls.registered_at)"
    " WHEN expected_calls.due_at IS NULL OR expected_calls.ends_at IS NOT NULL THEN expected_calls.due_at"
    " ELSE coalesce(excluded.ends_at, expected_calls.due_at) END RETURNING id"
)
_FIND_SQL = " UNION ALL ".join(
    f"SELECT id FROM expected_calls WHERE {name} {{among}} AND {condition}"  # noqa: S608
    for name, condition in {
        "reference": "reference IS NOT NULL",
        "call_id": "call_id IS NOT NULL",
        "outcome_id": "outcome_id IS NOT NULL",
        "phone_number": WITHOUT_REFERENCE,
    }.items()
)
_FIND_SQLITE = _FIND_SQL.format(among="IN (SELECT value FROM json_each(?))")
_FIND_POSTGRESQL = _FIND_SQL.format(among="= ANY(%s)")


# --- registering


def register(database: Database, calls: Sequence[ExpectedCall]) -> list[dict[str, Any]]:
    """Register the calls and return their records. Registering again changes nothing but fills in missing values.

    Raises `Contradicts` if a call is registered with other values; the batches before it stay registered.
    """
    records: list[dict[str, Any]] = []
    for batch in _batches(calls):
        ids = [call.id for call in batch]
        with database.writing() as connection:
            _insert(connection, batch)
        find_results(database, ids)
        stored = _by_id(database, ids)
        records += [stored[key] for key in ids]
    return records


def add(database: Database, calls: Sequence[ExpectedCall]) -> set[UUID]:
    """Register unknown calls; return their ids. Known calls stay unchanged. If two callers add a call, only one gets
    its id."""
    rows = sorted(map(_with_due_at, calls), key=lambda call: call.id)
    if not rows:
        return set()
    with database.writing() as connection:
        inserted = insert_rows(connection, expected_calls, rows, "ON CONFLICT (id) DO NOTHING RETURNING id")
        return {returned_id(row[0]) for row in inserted}


def _batches(calls: Sequence[ExpectedCall]) -> Iterator[list[ExpectedCall]]:
    """Yield the calls in batches for one transaction each; no call occurs twice in a batch."""
    batch: dict[UUID, ExpectedCall] = {}
    for call in calls:
        if call.id in batch or len(batch) == AT_ONCE:
            yield list(batch.values())
            batch = {}
        batch[call.id] = call
    if batch:
        yield list(batch.values())


def _with_due_at(call: ExpectedCall) -> ExpectedCall:
    return call._replace(due_at=call.ends_at or call.registered_at)


def _insert(connection: Connection, calls: Sequence[ExpectedCall]) -> None:
    rows = sorted(map(_with_due_at, calls), key=lambda call: call.id)
    insert_rows(connection, expected_calls, rows, _REGISTER)
    stored = {call.id: call for call in calls_where(connection, expected_calls.c.id.in_([row.id for row in rows]))}
    for call in calls:
        stored_call = stored[call.id]
        for name in (*_STATED, "metadata"):
            if getattr(call, name) and getattr(call, name) != getattr(stored_call, name):
                label = f"reference {call.reference}" if call.reference else f"call id {call.call_id}"
                raise Contradicts(f"the call with the {label} is known already, with another {name}")


def _by_id(database: Database, ids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
    statement = select(*Records.EXPECTED_CALLS.columns).where(expected_calls.c.id.in_(ids))
    with database.reading() as connection:
        return {row["id"]: dict(row) for row in connection.execute(statement).mappings()}


# --- results


def complete(connection: Connection, results: Mapping[UUID, Outcome], polled: Collection[UUID]) -> None:
    """Complete the outcomes with the values of their calls, and mark the calls' results as received.

    The outcomes must be locked and unchanged; outcomes in `polled` have only deliveries polled from Plum.
    """
    calls_by_outcome = calls_of(connection, results)
    _complete(connection, results, calls_by_outcome)
    note_results(connection, calls_by_outcome, polled)


def calls_of(connection: Connection, results: Mapping[UUID, Outcome]) -> dict[UUID, list[ExpectedCall]]:
    """Return the expected calls of these outcomes, by outcome id; the first call of each is the one whose values are
    taken."""
    ids = _find_ids(connection, results.values())
    calls = calls_where(connection, expected_calls.c.id.in_(ids)) if ids else []
    return matching(results, calls)


def _find_ids(connection: Connection, results: Collection[Outcome]) -> set[UUID]:
    """Return the ids of calls that may match these outcomes. Every callback runs this, hence one literal
    statement."""
    is_sqlite = connection.dialect.name == "sqlite"
    search_values = (
        [one for outcome in results for one in references_of(outcome)],
        [outcome.call_id for outcome in results if outcome.call_id is not None],
        [outcome.id.hex if is_sqlite else outcome.id for outcome in results],
        [outcome.phone_number for outcome in results if outcome.phone_number and outcome.batch],
    )
    values = tuple(map(to_json, search_values)) if is_sqlite else search_values
    rows = connection.exec_driver_sql(_FIND_SQLITE if is_sqlite else _FIND_POSTGRESQL, values).all()
    return {UUID(row[0]) if is_sqlite else row[0] for row in rows}


def note_results(
    connection: Connection, found: Mapping[UUID, Sequence[ExpectedCall]], polled: Collection[UUID]
) -> None:
    """Mark the calls, given by their outcomes' ids, as having their results; those in `polled` as polled."""
    changes = {
        call.id: {"key": call.id, "outcome": outcome_id, "is": _state(outcome_id, polled)}
        for outcome_id, calls in found.items()
        for call in calls
        if call.state not in (CallState.RECEIVED, _state(outcome_id, polled))
    }
    if changes:
        is_open = expected_calls.c.state != CallState.RECEIVED  # still, after the wait for the lock
        statement = update(expected_calls).where(expected_calls.c.id == bindparam("key"), is_open)
        values: dict[str, Any] = {"outcome_id": bindparam("outcome"), "state": bindparam("is"), "due_at": None}
        connection.execute(statement.values(values), [changes[key] for key in sorted(changes)])


def _state(outcome_id: UUID, polled: Collection[UUID]) -> CallState:
    return CallState.POLLED if outcome_id in polled else CallState.RECEIVED


def find_results(database: Database, ids: Collection[UUID]) -> set[UUID]:
    """Link these calls to results that are stored already; return the ids of calls that have a result."""
    journal.wait_for_running(database)
    with database.writing() as connection:
        calls = calls_where(connection, expected_calls.c.id.in_(ids))
        found = calls_of(connection, {outcome.id: outcome for outcome in _results(connection, calls)})
        # Read again under the locks: until then both may have changed.
        results = lock_outcomes(connection, found)
        calls_by_outcome = calls_of(connection, results)
        linked = [call for matches in calls_by_outcome.values() for call in matches]
        polled = {call.outcome_id for call in linked if call.state is CallState.POLLED}
        changed = _complete(connection, results, calls_by_outcome)
        note_results(connection, calls_by_outcome, [key for key in calls_by_outcome if key in polled])
        journal.note(connection, changed)
        return {call.id for call in linked} & set(ids)


def lock_outcomes(connection: Connection, ids: Collection[UUID]) -> dict[UUID, Outcome]:
    """Lock these outcomes in the order of their ids, like every group of callbacks; return those that are there."""
    if not ids:
        return {}
    no_change = update(outcomes).where(outcomes.c.id == bindparam("key")).values(deliveries=outcomes.c.deliveries)
    connection.execute(no_change, [{"key": key} for key in sorted(ids)])
    rows = connection.execute(select(outcomes).where(outcomes.c.id.in_(ids))).mappings()
    return {row["id"]: outcome_from_row(row) for row in rows}


def release(connection: Connection, outcome_ids: Collection[UUID]) -> None:
    """Make the calls of removed outcomes wait again."""
    waiting = calls_where(connection, expected_calls.c.outcome_id.in_(outcome_ids))
    if waiting:
        statement = update(expected_calls).where(expected_calls.c.id == bindparam("key"))
        values = {"outcome_id": None, "state": CallState.WAITING, "due_at": expected_calls.c.registered_at}
        connection.execute(statement.values(values), [{"key": key} for key in sorted(call.id for call in waiting)])


def _results(connection: Connection, calls: Sequence[ExpectedCall]) -> Iterator[Outcome]:
    """Yield the outcomes that may be results of these calls, from queries by indexed fields. Of a number that is
    called often, or a call id that many calls share, the other outcomes are not fetched."""
    own, by_number = outcomes.c, [call for call in calls if call.reference is None and call.batch is not None]
    is_ours = own.integration.in_({call.integration for call in calls})
    of_batch = own.batch.in_({call.batch for call in by_number})
    ids = [call.id for call in calls] + [call.outcome_id for call in calls if call.outcome_id]
    for field, values, only in (
        ("id", ids, is_ours),
        ("call_id", [call.call_id for call in calls], is_ours),
        ("message_reference", [call.reference for call in calls], is_ours),
        ("phone_number", [call.phone_number for call in by_number], is_ours & of_batch),
    ):
        known_values = list({value for value in values if value is not None})
        if known_values:
            statement = select(outcomes).where(is_any_of(own[field], known_values), only)
            yield from map(outcome_from_row, connection.execute(statement).mappings())


def _complete(
    connection: Connection, results: Mapping[UUID, Outcome], calls_by_outcome: Mapping[UUID, Sequence[ExpectedCall]]
) -> list[UUID]:
    """Complete the outcomes; return the ids of those that lacked something. A concurrent change of an outcome keeps
    its own values."""
    incomplete = [
        key for key in sorted(calls_by_outcome) if completed(results[key], calls_by_outcome[key][0]) != results[key]
    ]
    if incomplete:
        own, calls = outcomes.c, [calls_by_outcome[key][0] for key in incomplete]
        values = {name: func.coalesce(own[name], bindparam(f"its_{name}")) for name in ("call_id", "phone_number")}
        statement = update(outcomes).where(own.id == bindparam("key"))
        connection.execute(
            statement.values(**values, metadata=bindparam("its_metadata")),
            [
                {
                    "key": key,
                    "its_call_id": call.call_id,
                    "its_phone_number": call.phone_number,
                    "its_metadata": call.metadata,
                }
                for key, call in zip(incomplete, calls, strict=True)
            ],
        )
    return incomplete


def calls_where(connection: Connection, which: ColumnElement[bool]) -> list[ExpectedCall]:
    """Return all calls that fulfil the condition."""
    columns = [expected_calls.c[name] for name in ExpectedCall._fields]
    return [_call(row) for row in connection.execute(select(*columns).where(which)).mappings()]


def _call(row: Row) -> ExpectedCall:
    values = {name: row[name] for name in ExpectedCall._fields}
    return ExpectedCall(**values | {"state": CallState(row["state"])})


# --- queueing


def note_queued(database: Database, ids: Sequence[UUID], call_id: str | None, now: datetime) -> None:
    """Record that Plum has queued these calls; `call_id` is the id that it gave to a single call."""
    own, values = expected_calls.c, dict[str, Any](queued_at=now)
    if call_id:  # so that it can be polled
        values["call_id"] = call_id
        values["due_at"] = case((own.outcome_id.is_(None), func.coalesce(own.ends_at, own.registered_at)))
    with database.writing() as connection:
        statement = update(expected_calls).where(own.id == bindparam("key")).values(values)
        connection.execute(statement, [{"key": key} for key in sorted(ids)])
    if call_id:
        find_results(database, ids)  # the result may have arrived before its call id was known


def forget(database: Database, ids: Sequence[UUID]) -> None:
    """Remove the calls: Plum did not accept them. Calls that others have queued or registered meanwhile stay."""
    own = expected_calls.c
    is_ours = [column.is_(None) for column in (own.outcome_id, own.queued_at, own.call_id)]
    with database.writing() as connection:
        statement = delete(expected_calls).where(own.id == bindparam("key"), *is_ours)
        connection.execute(statement, [{"key": key} for key in sorted(ids)])


def get_calls(database: Database, ids: Collection[UUID]) -> dict[UUID, ExpectedCall]:
    """Return those of these calls that are registered."""
    with database.reading() as connection:
        return {call.id: call for call in calls_where(connection, expected_calls.c.id.in_(ids))}


def calls_by_number(database: Database, integration: str, batch: str) -> dict[str, dict[UUID, bool]]:
    """Return the phone numbers that are expected in a batch, with the ids of their calls, and if each is known to be
    queued."""
    own = expected_calls.c
    columns = own.phone_number, own.id, own.queued_at.is_not(None)
    statement = select(*columns).where(own.batch == batch, own.integration == integration)
    by_number: dict[str, dict[UUID, bool]] = defaultdict(dict)
    with database.reading() as connection:
        for number, key, is_queued in connection.execute(statement.where(own.phone_number.is_not(None))):
            by_number[number][key] = bool(is_queued)
    return by_number
