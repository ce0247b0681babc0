"""The attention page: quarantined deliveries, missing results, silent integrations, drift, the service's state."""

from __future__ import annotations

from typing import Any, NamedTuple

from flask import Response, request
from flask.blueprints import BlueprintSetupState

from app.outbound.reconciling import GRACE
from app.store import quarantine
from app.store.missing import make_due
from app.store.query.question import Condition, Operator, Question, Records
from app.web.caching import values_of
from app.web.drift import DriftSchema
from app.web.pages import explanations
from app.web.pages.attention_checks import RECENT, AttentionChecks, run_check, watch
from app.web.pages.site import Blueprint, redirect_to, render_page
from app.web.parts import now, parts

EXAMPLES = 3
AT_ONCE = 100  # deliveries that a click reads again
MOST = 50  # rows of a table

blueprint = Blueprint("attention", __name__)


class Group(NamedTuple):
    """Deliveries that were not understood for one reason."""

    reason: str
    text: str
    deliveries: int
    newest: list[dict[str, Any]]


@blueprint.record
def _begin(state: BlueprintSetupState) -> None:
    state.app.extensions["watch"] = AttentionChecks(state.app.extensions["plum"])


@blueprint.app_template_global()
def needs_a_person() -> list[str] | None:
    """Return the home page's list of problems: empty if all is well, None if that is not known yet."""
    return watch().things()


@blueprint.page("/attention")
def show() -> Response:
    """Show all parts. A part whose check fails does not affect the others."""
    checks = watch()
    drift, missing, silent, states, copy = values_of(
        checks.drift, checks.missing, checks.silent, checks.states, checks.copy
    )
    return render_page(
        "attention.html",
        groups=run_check(_groups),
        at_once=AT_ONCE,
        done=_form_result(),
        missing=missing,
        silent=silent,
        drift=drift and drift._replace(value=[_drift_record(row) for row in (drift.value or [])[:MOST]]),
        drift_since=(now() - RECENT).date().isoformat(),
        drift_count=len(drift.value or []) if drift else 0,
        states=[*(states or []), *([copy] if copy else [])],
        most=MOST,
    )


def _form_result() -> dict[str, int | None]:
    """Return the result of the previous form from the URL's parameters, checked, since anybody can write a URL."""
    read, understood, asked = (request.args.get(name, type=int) for name in ("read", "understood", "asked"))
    is_possible = read is not None and understood is not None and 0 <= understood <= read <= AT_ONCE
    return {
        "read": read if is_possible else None,
        "understood": understood,
        "asked": asked if asked is not None and asked >= 0 else None,
    }


@blueprint.form("/attention/reprocess", logged_fields=["reason"])
def reprocess() -> Response:
    """Read the newest deliveries of a reason again, with the current normaliser."""
    ids = [row["id"] for row in quarantine.newest(parts().beside, request.form.get("reason", ""), AT_ONCE)]
    for key in ids:
        parts().reprocess(key)
    understood = len(ids) - quarantine.count_among(parts().beside, ids)
    return redirect_to("attention.show", read=len(ids), understood=understood)


@blueprint.form("/attention/reconcile", logged_fields=["integration", "batch"])
def reconcile() -> Response:
    """Make a batch's missing calls due now, so that housekeeping asks Plum for them within seconds."""
    batch = request.form.get("batch")
    of_batch = Condition("batch", Operator.NULL, [True]) if batch is None else _equals("batch", batch)
    of_integration = _equals("integration", request.form.get("integration", ""))
    question = Question(records=Records.EXPECTED_CALLS, conditions=[of_integration, of_batch])
    return redirect_to("attention.show", asked=make_due(parts().beside, question, now() - GRACE))


def _equals(field: str, value: str) -> Condition:
    return Condition(field, Operator.EQUAL, [value])


def _groups() -> list[Group]:
    """Return the quarantined deliveries by reason, without a cache, since a form may just have changed them."""
    store = parts().answers
    counts = quarantine.count_by_reason(store, now() - RECENT)
    return [
        Group(reason, explanations.REASONS.get(reason, reason), count, quarantine.newest(store, reason, EXAMPLES))
        for reason, count in counts.items()
    ]


def _drift_record(row: dict[str, Any]) -> dict[str, Any]:
    return DriftSchema().record(row, reveal=False)
