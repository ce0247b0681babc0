"""How a queued call and its result find each other, and what the result takes from the call.

Pure: whichever of the two comes first, and however often either comes, the outcome is the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from app.model import ExpectedCall, Outcome, Product


def references_of(outcome: Outcome) -> set[str]:
    """What its call may be referred to by; DEV sends back the client's own reference, too."""
    own = outcome.message_reference if outcome.product is Product.DEV else None
    return {one for one in (outcome.reference, own) if one is not None}


def matching(outcome: Outcome, calls: Iterable[ExpectedCall]) -> list[ExpectedCall]:
    """The calls whose result this is; the one that it takes something from is the first: that of its reference."""
    mine = [call for call in calls if _is_of(call, outcome)]
    return sorted(mine, key=lambda call: (call.reference != outcome.reference, call.id))


def _is_of(call: ExpectedCall, outcome: Outcome) -> bool:
    """DEV's call ids are unique per outbound server only, so nothing else that both know may differ."""
    if call.integration != outcome.integration:
        return False
    if call.outcome_id == outcome.id or (call.reference is not None and call.reference == outcome.reference):
        return True
    references = references_of(outcome)
    return _is_named(call, outcome, references) and not (
        _differ(call.phone_number, outcome.phone_number)
        or _differ(call.call_id, outcome.call_id)
        or (call.reference is not None and references and call.reference not in references)
    )


def _is_named(call: ExpectedCall, outcome: Outcome, references: Collection[str]) -> bool:
    """By reference or call id; a call without a reference also by its number in its batch."""
    if call.reference in references or (call.call_id is not None and call.call_id == outcome.call_id):
        return True
    return (
        call.reference is None
        and None not in (call.batch, call.phone_number)
        and ((call.batch, call.phone_number) == (outcome.batch, outcome.phone_number))
    )


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def completed(outcome: Outcome, call: ExpectedCall) -> Outcome:
    """The outcome with what it lacks and its call has; what a result says itself stands."""
    return outcome._replace(
        call_id=outcome.call_id if outcome.call_id is not None else call.call_id,
        phone_number=outcome.phone_number if outcome.phone_number is not None else call.phone_number,
        metadata=call.metadata,
    )
