"""Results find their calls among many, without comparing each with each."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from app import call_matching
from app.identity import expected_id
from app.interpret import interpret
from app.model import CallState, Delivery, ExpectedCall, Outcome

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)
MANY = 50


def call(number: int) -> ExpectedCall:
    reference = f"r-{number}"
    return ExpectedCall(
        id=expected_id("ours", reference, None, None, None),
        integration="ours",
        reference=reference,
        call_id=None,
        phone_number=None,
        batch=None,
        ends_at=None,
        metadata={},
        state=CallState.WAITING,
        registered_at=NOON,
    )


def result(number: int) -> Outcome:
    body = b'{"status": "completed", "attempts": "1"}'
    told = interpret(Delivery(uuid4(), integration="ours", received_at=NOON, reference=f"r-{number}", body=body))
    assert told.outcome
    return told.outcome


def test_a_group_of_results_is_compared_with_calls_of_the_same_name_only(monkeypatch) -> None:
    compared = []
    may_be_of = call_matching._may_be_of
    monkeypatch.setattr(call_matching, "_may_be_of", lambda *pair: compared.append(pair) or may_be_of(*pair))
    results = {one.id: one for one in map(result, range(MANY))}
    calls = [call(number) for number in range(MANY)]
    found = call_matching.matching(results, calls)
    assert found == {key: [one] for key, one in zip(results, calls, strict=True)}
    assert len(compared) == MANY
