"""Rules that hold for every product: disposition, identity, digest, and the fold.

Pure: no clock, no log, no store. A value that does not parse becomes None, with a problem.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from app.identity import encode, identity_of, outcome_id, start_id
from app.model import (
    AnsweredBy,
    CalleeType,
    Delivery,
    Disposition,
    Event,
    Json,
    Outcome,
    Problem,
    Report,
    Sent,
    Status,
)
from app.values import MAX_NUMBER, BadValue, clean, exact, number, phone, storable, time

VERSION = "2"
DIGEST_HALF = 32  # hex digits

BY_CALLEE_TYPE: Mapping[CalleeType | None, tuple[Disposition, AnsweredBy | None]] = {
    CalleeType.VOICE: (Disposition.ANSWERED, AnsweredBy.HUMAN),
    CalleeType.ANSWERINGMACHINE: (Disposition.ANSWERED, AnsweredBy.MACHINE),
    CalleeType.FAXMACHINE: (Disposition.ANSWERED, AnsweredBy.FAX),
    CalleeType.BUSY: (Disposition.BUSY, None),
    CalleeType.NOANSWER: (Disposition.NO_ANSWER, None),
    CalleeType.NOATTEMPT: (Disposition.NOT_ATTEMPTED, None),
    CalleeType.INFORMATIONTONE: (Disposition.FAILED, None),
    CalleeType.LINEFAILURE: (Disposition.FAILED, None),
}

BY_STATUS = {
    Status.COMPLETED: Disposition.ANSWERED,
    Status.FAILED: Disposition.FAILED,
    Status.CANCELED: Disposition.CANCELED,
    Status.REJECTED: Disposition.REJECTED,
    Status.UNCALLED: Disposition.NOT_ATTEMPTED,
    Status.UNKNOWN: Disposition.UNKNOWN,
}

CONTRADICTIONS: Mapping[Status, frozenset[CalleeType | None]] = {
    Status.COMPLETED: frozenset(
        {
            CalleeType.BUSY,
            CalleeType.NOANSWER,
            CalleeType.INFORMATIONTONE,
            CalleeType.LINEFAILURE,
            CalleeType.NOATTEMPT,
        }
    ),
    Status.FAILED: frozenset({CalleeType.VOICE, CalleeType.ANSWERINGMACHINE, CalleeType.FAXMACHINE}),
}


_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_T = TypeVar("_T")


# --- one delivery


def normalise(delivery: Delivery, report: Report, region: str) -> Outcome:
    """Return the outcome of this one delivery. `region` is the region of national phone numbers (`US`)."""
    problems = list(report.problems)
    fields = report.fields

    def judged(name: str, read: Callable[[Json], _T | None]) -> _T | None:
        sent = fields.get(name)
        return None if sent is None else _judged(sent, read, problems)

    def text(name: str) -> str | None:
        sent = fields.get(name)
        return None if sent is None else as_text(sent, problems)

    call_id, message_reference, phone_raw = text("call_id"), text("message_reference"), text("phone_number")
    phone_number = judged("phone_number", lambda value: phone(value, region))
    queued_at = judged("queued_at", time)
    identity, key = identity_of(delivery, report, call_id, message_reference, phone_raw, queued_at)
    disposition, answered_by = _disposition(report.status, report.callee_type)
    problems += _contradiction(report)
    problems += _unstorable(report.extra)
    events = tuple(
        Event(storable(as_text(name, problems)), _judged(at, time, problems)) for name, at in report.events
    )
    connected_at, disconnected_at = _latest(events, "connected"), _latest(events, "disconnected")
    last_attempt_at = judged("last_attempt_at", time)
    outcome = Outcome(
        id=outcome_id(identity, delivery.integration, key),
        integration=delivery.integration,
        product=report.product,
        identity=identity,
        call_id=storable(call_id),
        message_reference=storable(message_reference),
        reference=storable(delivery.reference),
        batch=storable(delivery.batch),
        phone_number=phone_number,
        phone_number_raw=storable(phone_raw),
        status=report.status,
        status_raw=storable(text("status")),
        callee_type=report.callee_type,
        callee_type_raw=storable(text("callee_type")),
        disposition=disposition,
        answered_by=answered_by,
        attempts=judged("attempts", number),
        max_attempts=judged("max_attempts", number),
        reattempt_wait_seconds=judged("reattempt_wait_seconds", number),
        duration_seconds=_duration(judged("duration_seconds", number), connected_at, disconnected_at),
        queued_at=queued_at,
        start_at=judged("start_at", time),
        end_at=judged("end_at", time),
        last_attempt_at=last_attempt_at,
        connected_at=connected_at,
        disconnected_at=disconnected_at,
        ended_at=_ended_at(disconnected_at, last_attempt_at, events, delivery.received_at),
        received_at=delivery.received_at,
        updated_at=delivery.received_at,
        events=events,
        extra=clean(report.extra),
        problems=tuple(Problem(clean(one.field), clean(one.value), one.problem) for one in problems),
        deliveries=1,
        possible_duplicate=False,
        normaliser=VERSION,
        metadata={},
        digest="",
    )
    return outcome._replace(digest=_digest(outcome))


def start_of(integration: str, fields: Mapping[str, str], region: str) -> UUID | None:
    """Return the id that a call's start shares with its outcome (`identity.start_id`), from the start's fields."""
    call_id, message_reference, phone_raw = (
        storable(fields.get(name)) for name in ("call_id", "message_reference", "phone_number")
    )
    phone_number = _judged(Sent("phone_number", fields.get("phone_number")), lambda value: phone(value, region), [])
    return start_id(integration, call_id, message_reference, phone_number or phone_raw)


def same_reading(one: str, other: str) -> bool:
    """True if two digests are of the same reading, whatever its encoding."""
    return without_encoding(one) == without_encoding(other)


def without_encoding(digest: str) -> str:
    """Return the half of a digest that is the same in every encoding of a reading."""
    return digest[:DIGEST_HALF]


# --- many deliveries


def fold(outcomes: Iterable[Outcome]) -> Outcome:
    """Merge the readings of one call, or earlier folds of them, into one outcome.

    The newest reading wins whole. The fold is associative and commutative: any order of arrival and any grouping
    gives the same outcome.
    """
    readings = list(outcomes)
    if len(readings) == 1:
        return readings[0]
    folded = max(readings, key=rank)._replace(
        received_at=min(outcome.received_at for outcome in readings),
        updated_at=max(outcome.updated_at for outcome in readings),
        deliveries=sum(outcome.deliveries for outcome in readings),
        possible_duplicate=any(outcome.possible_duplicate for outcome in readings),
    )
    ended_at = _ended_at(folded.disconnected_at, folded.last_attempt_at, folded.events, folded.received_at)
    return folded._replace(ended_at=ended_at)


def rank(outcome: Outcome) -> tuple[int, datetime, bool, str]:
    """Return the sort key of the fold: attempts, time of evidence, finality, digest; never the order of arrival."""
    attempts = -1 if outcome.attempts is None else outcome.attempts
    evidence = outcome.last_attempt_at or _last_event(outcome.events) or _LONG_AGO
    return attempts, evidence, outcome.status is not Status.UNKNOWN, outcome.digest


# --- parts


def _judged(sent: Sent, read: Callable[[Json], _T | None], problems: list[Problem]) -> _T | None:
    try:
        return read(sent.value)
    except BadValue as odd:
        problems.append(Problem(sent.name, exact(sent.value), str(odd)))
        return None


def as_text(sent: Sent, problems: list[Problem]) -> str | None:
    """Return text of any characters and length; empty is None. Other types become their JSON, with a problem."""
    value = sent.value
    if isinstance(value, str):
        if storable(value) not in (value, None):
            problems.append(Problem(sent.name, value, "unstorable_character"))
        return value or None
    if value is None:
        return None
    if type(value) is not int:
        problems.append(Problem(sent.name, exact(value), "not_text"))
    if isinstance(value, float):
        return str(value)  # as sent
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _unstorable(extra: Mapping[str, Json]) -> list[Problem]:
    return [
        Problem(name, value, "unstorable_character")
        for name, value in extra.items()
        if clean({name: value}) != {name: value}
    ]


def _disposition(status: Status, callee_type: CalleeType | None) -> tuple[Disposition, AnsweredBy | None]:
    return BY_CALLEE_TYPE.get(callee_type) or (BY_STATUS[status], None)


def _contradiction(report: Report) -> list[Problem]:
    if report.callee_type not in CONTRADICTIONS.get(report.status, ()):
        return []
    sent = report.fields["callee_type"]
    return [Problem(sent.name, sent.value, "contradicts_result")]


def _latest(events: Iterable[Event], name: str) -> datetime | None:
    return max((event.at for event in events if event.at and (event.event or "").casefold() == name), default=None)


def _last_event(events: Iterable[Event]) -> datetime | None:
    return max((event.at for event in events if event.at), default=None)


def _ended_at(
    disconnected_at: datetime | None,
    last_attempt_at: datetime | None,
    events: Iterable[Event],
    received_at: datetime,
) -> datetime:
    return disconnected_at or last_attempt_at or _last_event(events) or received_at


def _duration(sent: int | None, connected_at: datetime | None, disconnected_at: datetime | None) -> int | None:
    if sent is not None or connected_at is None or disconnected_at is None:
        return sent
    seconds = int((disconnected_at - connected_at).total_seconds())
    return seconds if 0 <= seconds <= MAX_NUMBER else None


def _digest(outcome: Outcome) -> str:
    """Return 64 hex digits: a hash of the values whatever their encoding, then a hash that includes the encoding.

    Two readings of a call with the same first half are the same reading. The second half only makes the fold's order
    total; it hashes the values that are kept as sent, since the others are equal in every encoding.
    """
    judged = [*tuple(outcome)[_JUDGED], outcome.events]
    as_sent = [outcome.extra, outcome.problems]
    if not any(as_sent):
        return _hash(encode([judged, _NOTHING])) + _HASH_OF_NOTHING
    return _hash(encode([judged, _canonical(as_sent)])) + _hash(encode(as_sent))


_JUDGED = slice(Outcome._fields.index("integration"), Outcome._fields.index("ended_at"))
_NOTHING: list[Json] = [{}, []]  # the canonical form of an empty `extra` and no problems


def _canonical(value: Json) -> Json:
    """Write numbers as text and drop nulls, so that JSON and a form have the same canonical form."""
    if isinstance(value, Mapping):
        return {name: _canonical(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return str(value)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_HALF]


_HASH_OF_NOTHING = _hash(encode(_NOTHING))
