"""Calls that were queued: registered, and given their results.

A result takes its call within its own transaction (`complete`), once it has its outcome's lock; a call that is
registered, or learns more, takes its result in one that follows (`find_results`), when all that were under way
meanwhile have ended: so none of the two misses the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, select, update

from app.call_matching import completed, matching, references_of
from app.errors import Contradicts
from app.model import CallState, ExpectedCall, Outcome
from app.store import journal
from app.store.bulk import insert_rows, returned_id
from app.store.database import Database
from app.store.query.question import Records
from app.store.rows import Row, outcome_from_row
from app.store.schema import WITHOUT_REFERENCE, expected_calls, outcomes
from app.store.types import to_json

AT_ONCE = 200  # in one transaction

_STATED = ("reference", "call_id", "phone_number", "batch", "ends_at")
_MERGED = ", ".join(f"{name} = coalesce(expected_calls.{name}, excluded.{name})" for name in (*_STATED, "queued_at"))
_REGISTER = (
    f"ON CONFLICT (id) DO UPDATE SET {_MERGED}, "
    "metadata = CASE expected_calls.metadata WHEN '{}' THEN excluded.metadata ELSE expected_calls.metadata END, "
    "due_at = CASE"
    # One whose id was not known could not be asked for; and the window may be known only now.
    " WHEN expected_calls.outcome_id IS NULL AND expected_calls.call_id IS NULL AND excluded.call_id IS NOT NULL"
    " THEN coalesce(expected_calls.ends_at, excluded.ends_at, expected_calls.registered_at)"
    " WHEN expected_calls.due_at IS NULL OR expected_calls.ends_at IS NOT NULL THEN expected_calls.due_at"
    " ELSE coalesce(excluded.ends_at, expected_calls.due_at) END RETURNING id"
)
_FIND = " UNION ALL ".join(
    f"SELECT id FROM expected_calls WHERE {name} {{among}} AND {condition}"  # noqa: S608
    for name, condition in {
        "reference": "reference IS NOT NULL",
        "call_id": "call_id IS NOT NULL",
        "outcome_id": "outcome_id IS NOT NULL",
        "phone_number": WITHOUT_REFERENCE,
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
    for some in _portions(calls):
        ids = [call.id for call in some]
        with database.writing() as connection:
            _insert(connection, some)
        find_results(database, ids)
        stored = _by_id(database, ids)
        found += [stored[key] for key in ids]
    return found


def add(database: Database, calls: Sequence[ExpectedCall]) -> set[UUID]:
    """The ids of those that are new; what is known already stays as it is. Of two who add one, one adds it."""
    rows = sorted(map(_row, calls), key=lambda call: call.id)
    if not rows:
        return set()
    with database.writing() as connection:
        inserted = insert_rows(connection, expected_calls, rows, "ON CONFLICT (id) DO NOTHING RETURNING id")
        return {returned_id(row[0]) for row in inserted}


def _portions(calls: Sequence[ExpectedCall]) -> Iterator[list[ExpectedCall]]:
    """For one transaction each: some, none of them twice."""
    portion: dict[UUID, ExpectedCall] = {}
    for call in calls:
        if call.id in portion or len(portion) == AT_ONCE:
            yield list(portion.values())
            portion = {}
        portion[call.id] = call
    if portion:
        yield list(portion.values())


def _row(call: ExpectedCall) -> ExpectedCall:
    return call._replace(due_at=call.ends_at or call.registered_at)


def _insert(connection: Connection, calls: Sequence[ExpectedCall]) -> None:
    rows = sorted(map(_row, calls), key=lambda call: call.id)
    insert_rows(connection, expected_calls, rows, _REGISTER)
    stored = {call.id: call for call in calls_where(connection, expected_calls.c.id.in_([row.id for row in rows]))}
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


def complete(connection: Connection, results: Mapping[UUID, Outcome], polled: Collection[UUID]) -> None:
    """Give these outcomes what their calls have, and say of those that their results are there.

    The outcomes are locked, and as given; of `polled` ones nothing came but what Plum was asked for.
    """
    found = calls_of(connection, results)
    _complete(connection, results, found)
    note_results(connection, found, polled)


def calls_of(connection: Connection, results: Mapping[UUID, Outcome]) -> dict[UUID, list[ExpectedCall]]:
    """The expected calls of these outcomes, by the outcomes' ids; the first is the one that gives something."""
    ids = _find(connection, results.values())
    calls = calls_where(connection, expected_calls.c.id.in_(ids)) if ids else []
    found = {key: matching(outcome, calls) for key, outcome in results.items()} if calls else {}
    return {key: mine for key, mine in found.items() if mine}


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


def note_results(
    connection: Connection, found: Mapping[UUID, Sequence[ExpectedCall]], polled: Collection[UUID]
) -> None:
    """Say of these calls, by their outcomes' ids, that their results are there; of `polled` ones only by asking."""
    news = {
        call.id: {"key": call.id, "outcome": outcome_id, "is": _state(outcome_id, polled)}
        for outcome_id, calls in found.items()
        for call in calls
        if call.state not in (CallState.RECEIVED, _state(outcome_id, polled))
    }
    if news:
        statement = update(expected_calls).where(expected_calls.c.id == bindparam("key"))
        values: dict[str, Any] = {"outcome_id": bindparam("outcome"), "state": bindparam("is"), "due_at": None}
        connection.execute(statement.values(values), [news[key] for key in sorted(news)])


def _state(outcome_id: UUID, polled: Collection[UUID]) -> CallState:
    return CallState.POLLED if outcome_id in polled else CallState.RECEIVED


def find_results(database: Database, ids: Collection[UUID]) -> set[UUID]:
    """Give these calls the results that are there already; the ids of those that have one."""
    journal.wait_for_running(database)
    with database.writing() as connection:
        calls = calls_where(connection, expected_calls.c.id.in_(ids))
        results = {outcome.id: outcome for outcome in _results(connection, calls)}
        polled = {call.outcome_id for call in calls if call.state is CallState.POLLED}
        found = calls_of(connection, results)
        changed = _complete(connection, results, found)
        note_results(connection, found, [key for key in found if key in polled])
        journal.note(connection, changed)
        return {call.id for mine in found.values() for call in mine} & set(ids)


def release(connection: Connection, outcome_ids: Collection[UUID]) -> None:
    """These outcomes are gone: their calls wait again."""
    orphans = calls_where(connection, expected_calls.c.outcome_id.in_(outcome_ids))
    if orphans:
        statement = update(expected_calls).where(expected_calls.c.id == bindparam("key"))
        values = {"outcome_id": None, "state": CallState.WAITING, "due_at": expected_calls.c.registered_at}
        connection.execute(statement.values(values), [{"key": key} for key in sorted(one.id for one in orphans)])


def _results(connection: Connection, calls: Sequence[ExpectedCall]) -> Iterator[Outcome]:
    """Whatever may be a result of one of them, by what outcomes are looked up by."""
    ids = [call.id for call in calls] + [call.outcome_id for call in calls if call.outcome_id]
    for field, values in (
        ("id", ids),
        ("call_id", [call.call_id for call in calls]),
        ("message_reference", [call.reference for call in calls]),
        ("phone_number", [call.phone_number for call in calls if call.reference is None and call.batch is not None]),
    ):
        wanted = {value for value in values if value is not None}
        if wanted:
            rows = connection.execute(select(outcomes).where(outcomes.c[field].in_(wanted))).mappings()
            yield from map(outcome_from_row, rows)


def _complete(
    connection: Connection, results: Mapping[UUID, Outcome], found: Mapping[UUID, Sequence[ExpectedCall]]
) -> list[UUID]:
    """The outcomes that lacked something. One that changes at the same time keeps what it says itself."""
    lacking = [key for key in sorted(found) if completed(results[key], found[key][0]) != results[key]]
    if lacking:
        own, given = outcomes.c, [found[key][0] for key in lacking]
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
                for key, call in zip(lacking, given, strict=True)
            ],
        )
    return lacking


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


def numbers_of(database: Database, integration: str, batch: str) -> dict[str, set[UUID]]:
    """The numbers that are expected in a batch, and the ids of their calls."""
    own = expected_calls.c
    statement = select(own.phone_number, own.id).where(own.batch == batch, own.integration == integration)
    found: dict[str, set[UUID]] = defaultdict(set)
    with database.reading() as connection:
        for number, key in connection.execute(statement.where(own.phone_number.is_not(None))):
            found[number].add(key)
    return found
