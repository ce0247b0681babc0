"""The nouns as rows and back."""

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

# A row of SQLAlchemy's by its columns' names, or one made here.
Row = RowMapping | dict[str, Any]

_WORDS = {
    "product": Product,
    "identity": Identity,
    "status": Status,
    "callee_type": CalleeType,
    "disposition": Disposition,
    "answered_by": AnsweredBy,
}
_PLAIN = [name for name in Outcome.__slots__ if name not in {*_WORDS, "events", "extra", "problems"}]


def delivery_row(reading: Reading) -> dict[str, Any]:
    """The row of a delivery that is new: applied until the fold says otherwise, or quarantined."""
    delivery, outcome = reading.delivery, reading.outcome
    product = outcome.product if outcome else delivery.product
    return {
        "id": delivery.id,
        "integration": delivery.integration,
        "declared": _value(delivery.product),
        "product": _value(product),
        "received_at": delivery.received_at,
        "via": delivery.via.value,
        "verdict": (Verdict.APPLIED if outcome else Verdict.QUARANTINED).value,
        "reason": reading.reason,
        "outcome_id": outcome.id if outcome else None,
        "reference": storable(delivery.reference),
        "batch": storable(delivery.batch),
        "content_type": delivery.content_type,
        "headers": delivery.headers,
        "query": delivery.query,
        "remote_addr": delivery.remote_addr,
        "size": delivery.size,
        "sha256": delivery.sha256,
        "problems": problems_json(reading.problems),
        "normaliser": reading.normaliser,
        "digest": outcome.digest if outcome else None,
        "cut_short": delivery.cut_short,
        "body": delivery.body,
        "later": False,
    }


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
        body=row["body"],
    )


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """The outcome's row, but for `body_sha256` and `first_delivery_id`, which are its delivery's."""
    row = {name: getattr(outcome, name) for name in _PLAIN}
    row |= {name: _value(getattr(outcome, name)) for name in _WORDS}
    row["events"] = [{"event": event.event, "at": _rfc3339(event.at)} for event in outcome.events]
    row["extra"] = outcome.extra
    row["problems"] = problems_json(outcome.problems)
    return row


def outcome_from_row(row: Row) -> Outcome:
    values = {name: row[name] for name in _PLAIN}
    values |= {name: word(row[name]) if row[name] is not None else None for name, word in _WORDS.items()}
    values["events"] = tuple(Event(event["event"], _moment(event["at"])) for event in row["events"])
    values["extra"] = row["extra"]
    values["problems"] = tuple(Problem(**problem) for problem in row["problems"])
    return Outcome(**values)


def problems_json(problems: tuple[Problem, ...]) -> list[dict[str, Any]]:
    return [{"field": one.field, "value": one.value, "problem": one.problem} for one in problems]


def _value(word: Any) -> str | None:
    return word.value if word is not None else None


def _rfc3339(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
