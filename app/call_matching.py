"""Matching of expected calls and outcomes, and the fields that an outcome takes from its expected call.

Pure. The outcome is the same whichever of the two arrives first, and however often.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from uuid import UUID

from app.model import ExpectedCall, Outcome, Product


def references_of(outcome: Outcome) -> set[str]:
    """Return the references of the outcome's call. DEV also sends back the client's own `message_reference`."""
    own = outcome.message_reference if outcome.product is Product.DEV else None
    return {reference for reference in (outcome.reference, own) if reference is not None}


def matching(outcomes: Mapping[UUID, Outcome], calls: Iterable[ExpectedCall]) -> dict[UUID, list[ExpectedCall]]:
    """Return the calls whose results these outcomes are, by the outcome's id. It takes fields from the first, the one
    with its reference.

    Only those are compared that share a name, since a group has hundreds of both.
    """
    known = {call.id: call for call in calls}
    by_name: dict[Hashable, list[UUID]] = defaultdict(list)
    for call in known.values():
        for name in {call.outcome_id, call.reference, call.call_id, _in_batch(call)} - {None}:
            by_name[name].append(call.id)
    found: dict[UUID, list[ExpectedCall]] = {}
    for outcome in sorted(outcomes.values(), key=lambda outcome: (outcome.ended_at, outcome.id)) if known else ():
        names = {outcome.id, *references_of(outcome), outcome.call_id, _in_batch(outcome)} - {None}
        candidates = {key for name in names for key in by_name.get(name, ())}
        if matches := _matches(outcome, [known[key] for key in candidates]):
            found[outcome.id] = matches
            for call in matches:  # so that another result of the same number is of another call
                known[call.id] = call._replace(outcome_id=call.outcome_id or outcome.id)
    return found


def _matches(outcome: Outcome, calls: Iterable[ExpectedCall]) -> list[ExpectedCall]:
    """Return the calls whose result this is.

    A number of a batch does not tell which of several calls to it this is, as after a redial: it is one of them, if
    possible one without another result.
    """
    candidates = [call for call in calls if _may_be_of(call, outcome)]
    named = [call for call in candidates if _is_named(call, outcome)]
    if named:
        return sorted(named, key=lambda call: (call.reference != outcome.reference, call.id))
    numbered = [call for call in candidates if _is_numbered(call, outcome)]
    return sorted(numbered, key=lambda call: (call.outcome_id is not None, call.registered_at, call.id))[:1]


def _in_batch(one: ExpectedCall | Outcome) -> tuple[str, str] | None:
    return (one.batch, one.phone_number) if one.batch is not None and one.phone_number is not None else None


def _is_linked(call: ExpectedCall, outcome: Outcome) -> bool:
    return call.outcome_id == outcome.id or (call.reference is not None and call.reference == outcome.reference)


def _may_be_of(call: ExpectedCall, outcome: Outcome) -> bool:
    """DEV's call ids are unique per outbound server only, so the other identifying fields must not differ."""
    if call.integration != outcome.integration:
        return False
    references = references_of(outcome)
    return _is_linked(call, outcome) or not (
        _differ(call.phone_number, outcome.phone_number)
        or _differ(call.call_id, outcome.call_id)
        or (call.reference is not None and references and call.reference not in references)
    )


def _is_named(call: ExpectedCall, outcome: Outcome) -> bool:
    """True if the reference or call id matches, or if the call has this result already."""
    return (
        _is_linked(call, outcome)
        or call.reference in references_of(outcome)
        or (call.call_id is not None and call.call_id == outcome.call_id)
    )


def _is_numbered(call: ExpectedCall, outcome: Outcome) -> bool:
    """True for a call without a reference if the number matches in its batch."""
    return call.reference is None and _in_batch(call) is not None and _in_batch(call) == _in_batch(outcome)


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def completed(outcome: Outcome, call: ExpectedCall) -> Outcome:
    """Fill the outcome's empty fields from its expected call; the outcome's own values stay."""
    return outcome._replace(
        call_id=outcome.call_id if outcome.call_id is not None else call.call_id,
        phone_number=outcome.phone_number if outcome.phone_number is not None else call.phone_number,
        metadata=call.metadata,
    )
