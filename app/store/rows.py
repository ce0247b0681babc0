"""Converts deliveries and outcomes to rows and back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from app.model import (
    AnsweredBy,
    CalleeType,
    Delivery,
    Disposition,
    Event,
    Identity,
    Outcome,
    Problem,
    Product,
    Reading,
    Status,
    Verdict,
    Via,
)
from app.values import storable

# A row by its columns' names: from SQLAlchemy, or a dict.
Row = RowMapping | dict[str, Any]
# Values in the order of a table's columns, with enumeration members; the column's type converts each value for the
# driver.
Values = tuple[Any, ...]

_WORDS = {
    "product": Product,
    "identity": Identity,
    "status": Status,
    "callee_type": CalleeType,
    "disposition": Disposition,
    "answered_by": AnsweredBy,
}
_EVENTS, _PROBLEMS = Outcome._fields.index("events"), Outcome._fields.index("problems")
_PLAIN = [name for name in Outcome._fields if name not in {*_WORDS, "events", "problems"}]


def delivery_row(reading: Reading) -> Values:
    """Return the row of a new delivery. Its verdict is `applied` if it has an outcome; the fold may correct that."""
    delivery, outcome = reading.delivery, reading.outcome
    return (
        delivery.id,
        delivery.integration,
        delivery.product,
        outcome.product if outcome else delivery.product,
        delivery.received_at,
        delivery.via,
        reading.verdict,
        reading.reason,
        outcome.id if outcome else None,
        storable(delivery.reference),
        storable(delivery.batch),
        delivery.content_type,
        delivery.headers,
        delivery.query,
        delivery.remote_addr,
        delivery.size,
        delivery.sha256,
        problems_json(reading.problems),
        reading.normaliser,
        outcome.digest if outcome else None,
        delivery.cut_short,
        delivery.body,
        False,
        reading.start_of,
    )


def delivery_from_row(row: Row) -> Delivery:
    return Delivery(
        id=row["id"],
        integration=row["integration"],
        product=Product(row["declared"]) if row["declared"] else None,
        received_at=row["received_at"],
        via=Via(row["via"]),
        content_type=row["content_type"],
        headers=tuple((name, value) for name, value in row["headers"]),
        query=row["query"],
        remote_addr=row["remote_addr"],
        reference=row["reference"],
        batch=row["batch"],
        cut_short=row["cut_short"],
        started=row["verdict"] == Verdict.STARTED,
        body=row["body"],
    )


def outcome_row(outcome: Outcome) -> Values:
    """Return the outcome's row without its last two columns, which come from its first delivery."""
    events = [{"event": event.event, "at": _rfc3339(event.at)} for event in outcome.events]
    return (
        *outcome[:_EVENTS],
        events,
        outcome.extra,
        problems_json(outcome.problems),
        *outcome[_PROBLEMS + 1 :],
    )


def outcome_values(outcome: Outcome) -> dict[str, Any]:
    """Return the values that an update sets: all but the id, by which a distributed database selects the shard."""
    return dict(zip(Outcome._fields[1:], outcome_row(outcome)[1:], strict=True))


def outcome_from_row(row: Row) -> Outcome:
    values = {name: row[name] for name in _PLAIN}
    values |= {name: word(row[name]) if row[name] is not None else None for name, word in _WORDS.items()}
    values["events"] = tuple(Event(event["event"], _moment(event["at"])) for event in row["events"])
    values["problems"] = tuple(Problem(**problem) for problem in row["problems"])
    return Outcome(**values)


def problems_json(problems: tuple[Problem, ...]) -> list[dict[str, Any]]:
    return [{"field": problem.field, "value": problem.value, "problem": problem.problem} for problem in problems]


def _rfc3339(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
