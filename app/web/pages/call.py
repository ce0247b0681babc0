"""The page of one call: its timeline, its record, and each delivery about it with its reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from flask import Response, g

from app.errors import StoreUnavailable
from app.model import Delivery, Scope, Verdict
from app.store import pagination, records
from app.store.query.question import Condition, Operator, Order, Question, Records
from app.web.auditing import Logged
from app.web.lists import deliveries_about, id_of, schema_of
from app.web.pages import explanations
from app.web.pages.site import Blueprint, may, redirect_to, render_page
from app.web.parts import parts
from app.web.schemas import DeliverySchema, ExpectedCallSchema, OutcomeSchema

MOST = 10  # deliveries on a page; each is parsed again for the page
MAX_TEXT = 40_000  # characters of all bodies on a page

# The meaning of Plum's times. Events have names of their own.
_MOMENTS = {
    "queued_at": "Queued at Plum",
    "start_at": "Its window began",
    "last_attempt_at": "Last attempt",
    "end_at": "Its window ended",
}
_EVENT_TIMES = ("connected_at", "disconnected_at")
# Fields that other parts of the page show.
_SHOWN_ELSEWHERE = {"id", "events", "problems", "phone_number", "metadata", *_MOMENTS, *_EVENT_TIMES}

blueprint = Blueprint("call", __name__)


class Moment(NamedTuple):
    """A step of the call, and the seconds since the one before; None for the first."""

    at: datetime
    what: str
    since: float | None = None


class Understood(NamedTuple):
    """A delivery's record, its own reading, and its body if the token may reveal it."""

    record: Mapping[str, Any]
    reading: Mapping[str, Any]
    body: str | None
    is_cut: bool


@blueprint.page("/calls/<outcome_id>")
def show(outcome_id: str) -> Response:
    return _page(outcome_id)


@blueprint.page("/calls/<outcome_id>/reveal")
def show_masked(outcome_id: str) -> Response:
    """Redirect a GET of the reveal form's URL to the masked page."""
    return redirect_to("call.show", outcome_id=outcome_id)


@blueprint.page("/deliveries/<delivery_id>/reveal")
def show_delivery_masked(delivery_id: str) -> Response:
    return redirect_to("call.show_delivery", delivery_id=delivery_id)


@blueprint.form("/calls/<outcome_id>/reveal", Scope.REVEAL, Logged.ALWAYS)
def reveal(outcome_id: str) -> Response:
    """Show the page with numbers and bodies. It is a form, so that neither a link nor a reload reveals anything."""
    g.reveal = True
    return _page(outcome_id)


@blueprint.page("/deliveries/<delivery_id>")
def show_delivery(delivery_id: str) -> Response:
    return _delivery_page(delivery_id)


@blueprint.form("/deliveries/<delivery_id>/reveal", Scope.REVEAL, Logged.ALWAYS)
def reveal_delivery(delivery_id: str) -> Response:
    g.reveal = True
    return _delivery_page(delivery_id)


@blueprint.form("/deliveries/<delivery_id>/reprocess")
def reprocess(delivery_id: str) -> Response:
    """Read the delivery again; show its call if it has one now."""
    key = id_of(delivery_id)
    parts().reprocess(key)
    row = records.get_record(parts().database, Records.DELIVERIES, key)
    if row["outcome_id"] and row["verdict"] != Verdict.STARTED:
        return redirect_to("call.show", outcome_id=row["outcome_id"])
    return redirect_to("call.show_delivery", delivery_id=key)


def _page(outcome_id: str) -> Response:
    row = records.get_record(parts().answers, Records.OUTCOMES, id_of(outcome_id))
    deliveries = _first_rows(Records.DELIVERIES, "outcome_id", deliveries_about(row), Order("received_at"))
    expected = _first_rows(Records.EXPECTED_CALLS, "outcome_id", [row["id"]], Order("registered_at"))
    record = schema_of(OutcomeSchema).record(row)
    return render_page(
        "call.html",
        record=record,
        facts={name: value for name, value in record.items() if name not in _SHOWN_ELSEWHERE},
        timeline=_timeline(row, deliveries, expected),
        deliveries=[_understood(each, MAX_TEXT // len(deliveries)) for each in deliveries[:MOST]],
        more=len(deliveries) > MOST,
        expected=[schema_of(ExpectedCallSchema).record(each) for each in expected],
        explanations=explanations,
        may_reveal=may(Scope.REVEAL),
    )


def _delivery_page(delivery_id: str) -> Response:
    row = records.get_record(parts().answers, Records.DELIVERIES, id_of(delivery_id))
    return render_page(
        "delivery.html", delivery=_understood(row), explanations=explanations, may_reveal=may(Scope.REVEAL)
    )


def _first_rows(kind: Records, field: str, values: list[UUID], order: Order) -> list[dict[str, Any]]:
    """Return up to `MOST` + 1 rows: one more than the page shows, so that it knows whether there are more."""
    condition = Condition(field, Operator.EQUAL, values)
    question = Question(records=kind, conditions=[condition], order=[order], limit=MOST + 1)
    with parts().question_limit.slot():
        return list(pagination.page(parts().answers, question).rows)


def _timeline(
    row: Mapping[str, Any], deliveries: Iterable[Mapping[str, Any]], expected: Iterable[Mapping[str, Any]]
) -> list[Moment]:
    """Return all known steps in order of time; steps at the same time keep the order of this code."""
    steps = [(call["registered_at"], "Expected here") for call in expected]
    steps += [(call["queued_at"], "Queued by this service") for call in expected]
    steps += [(row[name], what) for name, what in _MOMENTS.items()]
    steps += [
        (_parsed_moment(event["at"]), str(event["event"] or "An event without a name")) for event in row["events"]
    ]
    steps += [(delivery["received_at"], _arrival(delivery)) for delivery in deliveries]
    steps += [(row["ended_at"], "Ended, by the best that is known")]
    known = sorted(((at, what) for at, what in steps if at is not None), key=lambda step: step[0])
    return [
        Moment(at, what, (at - known[number - 1][0]).total_seconds() if number else None)
        for number, (at, what) in enumerate(known)
    ]


def _parsed_moment(value: datetime | str | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _arrival(delivery: Mapping[str, Any]) -> str:
    if delivery["verdict"] == Verdict.STARTED:
        return "Connected: Plum asked for its script"
    return f"A delivery came: {delivery['verdict']}"


def _understood(row: Mapping[str, Any], most: int = MAX_TEXT) -> Understood:
    """Return the delivery with its own reading by the current normaliser."""
    record = schema_of(DeliverySchema).record(row)
    try:
        delivery = records.get_delivery(parts().answers, row["id"])
    except StoreUnavailable:
        return Understood(record, {}, None, False)
    outcome = parts().read(delivery).outcome
    reading = schema_of(OutcomeSchema).record(outcome._asdict() | _as_lists(outcome)) if outcome else {}
    text = _text(delivery) if g.reveal else None
    return Understood(record, reading, text and text[:most], len(text or "") > most)


def _as_lists(outcome: Any) -> dict[str, Any]:
    """Return the outcome's events and problems as a row has them, as lists of objects."""
    events = [{"event": each.event, "at": each.at and f"{each.at:%Y-%m-%dT%H:%M:%SZ}"} for each in outcome.events]
    return {"events": events, "problems": [each._asdict() for each in outcome.problems]}


def _text(delivery: Delivery) -> str:
    return delivery.body.decode("utf-8", "replace")
