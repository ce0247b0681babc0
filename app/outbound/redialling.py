"""Selects the numbers to redial, and the reasons for leaving others out. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from app.analytics.redial import Candidate

REASONS = ("already_reached", "attempts_used_up", "do_not_call")


@dataclass(frozen=True, slots=True)
class Redial:
    """The numbers to dial, and how many were left out by each reason; the first that applies counts."""

    numbers: list[str]
    left_out: Counter[str]

    def counts(self) -> dict[str, int]:
        return {"numbers": len(self.numbers)} | {reason: self.left_out[reason] for reason in REASONS}


def redial(candidates: Iterable[Candidate], not_to_call: Collection[str], most_attempts: int | None) -> Redial:
    """Select the numbers. `most_attempts` limits the attempts of all calls to a number; None is no limit."""
    numbers, left_out = [], Counter[str]()
    for candidate in candidates:
        reason = _reason_against(candidate, not_to_call, most_attempts)
        if reason:
            left_out[reason] += 1
        else:
            numbers.append(candidate.number)
    return Redial(numbers, left_out)


def _reason_against(candidate: Candidate, not_to_call: Collection[str], most_attempts: int | None) -> str | None:
    if candidate.number in not_to_call:
        return "do_not_call"
    if candidate.is_reached:
        return "already_reached"
    return "attempts_used_up" if most_attempts is not None and candidate.attempts >= most_attempts else None
