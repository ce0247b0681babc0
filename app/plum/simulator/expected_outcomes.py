"""The outcome record that a receiver should make of a call.

A second implementation of the outcome schema. It uses the call's history, not its posts, and shares no code with the
receiver, so that tests can compare the two.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from app.plum.simulator.call_histories import CallHistory


def expected_outcome(story: CallHistory, reference: str | None = None, batch: str | None = None) -> dict[str, Any]:
    """Return the outcome record of the story."""
    dev, insight = story.product == "dev", story.product == "insight"
    start_at, end_at = story.scheduled
    reported = replace(story, events=()) if dev else story  # DEV reports no events
    connected_at, disconnected_at = reported.last("connected"), reported.last("disconnected")
    return {
        "product": story.product,
        "identity": _identity(story.product, reference),
        "call_id": str(story.call_id) if dev else None,
        "message_reference": story.message_reference if dev else None,
        "reference": reference,
        "batch": batch,
        "phone_number": None if insight else story.phone_number,
        "phone_number_raw": None if insight else story.phone_number_raw,
        "status": story.ending.status_raw.lower(),
        "status_raw": story.ending.status_raw,
        "callee_type": story.ending.callee_type,
        "callee_type_raw": story.ending.callee_type,
        "disposition": story.ending.disposition,
        "answered_by": story.ending.answered_by,
        "attempts": story.attempts,
        "max_attempts": None if dev else story.max_attempts,
        "reattempt_wait_seconds": None if dev else story.reattempt_wait,
        "duration_seconds": story.talk_seconds if insight else story.duration,
        "queued_at": None if dev else _utc(story.queued_at),
        "start_at": _utc(start_at),
        "end_at": _utc(end_at),
        "last_attempt_at": _utc(story.last_attempt_at),
        "connected_at": _utc(connected_at),
        "disconnected_at": _utc(disconnected_at),
        "ended_at": _utc(disconnected_at or story.last_attempt_at or reported.last()),
        "events": [{"event": event, "at": _utc(at)} for event, at in reported.events],
        "extra": {},
        "problems": [],
        "deliveries": 1,
        "possible_duplicate": False,
    }


def _identity(product: str, reference: str | None) -> str:
    if reference is not None:
        return "reference"
    return {"dev": "call_id", "fuse": "derived", "insight": "none"}[product]


def _utc(at: int | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
