"""What needs a person: what was not understood, what is missing, who is silent, what is new, how the service is."""

from __future__ import annotations

from typing import Any, NamedTuple

from flask import Response, request
from flask.blueprints import BlueprintSetupState

from app.reconciling import GRACE
from app.store import quarantine
from app.store.missing import make_due
from app.store.query.question import Condition, Operator, Question, Records
from app.web.caching import values_of
from app.web.drift import DriftSchema
from app.web.pages import explanations
from app.web.pages.attention_checks import RECENT, Watch, found, watch
from app.web.pages.site import Blueprint, seen, shown
from app.web.parts import now, parts

EXAMPLES = 3
AT_ONCE = 100  # deliveries that a click reads again
MOST = 50  # rows of a table

blueprint = Blueprint("attention", __name__)


class Group(NamedTuple):
    """Deliveries that were not understood for one reason."""

    reason: str
    told: str
    deliveries: int
    newest: list[dict[str, Any]]


@blueprint.record
def _begin(state: BlueprintSetupState) -> None:
    state.app.extensions["watch"] = Watch(state.app.extensions["plum"])


@blueprint.app_template_global()
def needs_a_person() -> list[str] | None:
    """For the home page: nothing where all is well, None where that is not known yet."""
    return watch().things()


@blueprint.page("/attention")
def show() -> Response:
    """Each part by itself: one that cannot be told now leaves the others."""
    kept = watch()
    drift, missing, silent, states, copy = values_of(kept.drift, kept.missing, kept.silent, kept.states, kept.copy)
    return shown(
        "attention.html",
        groups=found(_groups),
        at_once=AT_ONCE,
        done=_done(),
        missing=missing,
        silent=silent,
        drift=drift and drift._replace(value=[_new(row) for row in (drift.value or [])[:MOST]]),
        drift_since=(now() - RECENT).date().isoformat(),
        drift_count=len(drift.value or []) if drift else 0,
        states=[*(states or []), *([copy] if copy else [])],
        most=MOST,
    )


def _done() -> dict[str, int | None]:
    """What the form before came to, as its answer's address says. Anybody can write one."""
    read, understood, asked = (request.args.get(name, type=int) for name in ("read", "understood", "asked"))
    is_possible = read is not None and understood is not None and 0 <= understood <= read <= AT_ONCE
    return {
        "read": read if is_possible else None,
        "understood": understood,
        "asked": asked if asked is not None and asked >= 0 else None,
    }


@blueprint.form("/attention/reprocess", tells=["reason"])
def reprocess() -> Response:
    """The newest of a reason are read again, by today's normaliser."""
    ids = [row["id"] for row in quarantine.newest(parts().beside, request.form.get("reason", ""), AT_ONCE)]
    for one in ids:
        parts().reprocess(one)
    understood = len(ids) - quarantine.count_among(parts().beside, ids)
    return seen("attention.show", read=len(ids), understood=understood)


@blueprint.form("/attention/reconcile", tells=["integration", "batch"])
def reconcile() -> Response:
    """What is missing of a batch is due now, so that housekeeping asks Plum for it within seconds."""
    batch = request.form.get("batch")
    of_batch = Condition("batch", Operator.NULL, [True]) if batch is None else _is("batch", batch)
    of_integration = _is("integration", request.form.get("integration", ""))
    question = Question(records=Records.EXPECTED_CALLS, conditions=[of_integration, of_batch])
    return seen("attention.show", asked=make_due(parts().beside, question, now() - GRACE))


def _is(field: str, value: str) -> Condition:
    return Condition(field, Operator.EQUAL, [value])


def _groups() -> list[Group]:
    """Counted anew, since a form may just have changed them."""
    store = parts().answers
    counts = quarantine.count_by_reason(store, now() - RECENT)
    return [
        Group(reason, explanations.REASONS.get(reason, reason), count, quarantine.newest(store, reason, EXAMPLES))
        for reason, count in counts.items()
    ]


def _new(row: dict[str, Any]) -> dict[str, Any]:
    return DriftSchema().record(row, reveal=False)
