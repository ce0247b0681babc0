"""Draw the events on the telephone line of one call at random."""

from __future__ import annotations

import random

from app.plum.simulator.call_histories import Ending

RETRY_SHARE = 0.35
BROKEN_OFF_SHARE = 0.05

Events = list[tuple[str, int]]


def dialled(rng: random.Random, ending: Ending, max_attempts: int) -> int:
    """Draw the number of attempts of a call with this ending."""
    if ending.disposition == "not_attempted":
        return 0
    if ending.disposition == "canceled":
        return min(rng.choice((0, 0, 1, 2)), max_attempts)
    if ending.disposition != "answered":
        return max_attempts  # Plum posts no result for a failed attempt with retries left
    attempts = 1
    while attempts < max_attempts and rng.random() < RETRY_SHARE:
        attempts += 1
    return attempts


def line_events(
    rng: random.Random, ending: Ending, attempts: int, wait: int, queued_at: int, opens_at: int = 0
) -> Events:
    """Return the events' names and Unix seconds, in order.

    No attempt is before `opens_at`; `wait` is the minimum time between two attempts, in seconds.
    """
    now = queued_at + rng.randrange(8)  # the event differs from queued_timestamp by seconds
    events = [("queued", now)]
    now = max(now, opens_at)
    for attempt in range(1, attempts + 1):
        now += rng.randrange(1, 30) + (wait if attempt > 1 else 0)
        events.append(("dialing", now))
        if ending.disposition == "answered" and (attempt == attempts or rng.random() < BROKEN_OFF_SHARE):
            events += _talk(rng, now)
            now = events[-1][1]
    if ending.disposition in ("canceled", "rejected"):
        events.append((ending.status_raw, now + rng.randrange(1, 60)))
    return events


def _talk(rng: random.Random, dialled_at: int) -> Events:
    connected_at = dialled_at + rng.randrange(3, 30)
    disconnected_at = connected_at + 1 + int(rng.lognormvariate(3.5, 0.8))
    return [("connected", connected_at), ("disconnected", disconnected_at)]
