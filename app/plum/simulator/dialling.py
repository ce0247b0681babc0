"""The course of one queued call, drawn at random once when it is queued. Pure: no clock, no network."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from app.plum.simulator.call_histories import CANCELED, ENDINGS, CallHistory, Ending, fields
from app.plum.simulator.queue_requests import QueueRequest
from app.plum.simulator.random_events import dialled, line_events
from app.plum.simulator.wire_forms import Encoding, choose

RING_SECONDS = 20
UNCALLED = {
    "dev": Ending("Failed", "noattempt", "not_attempted", None),
    "insight": Ending("uncalled", None, "not_attempted", None),
    "fuse": Ending("uncalled", None, "not_attempted", None),
}


@dataclass(frozen=True, slots=True)
class CallCourse:
    """All that happens to a call. Times are Unix seconds; at `ended_at` the result is known and posted."""

    story: CallHistory
    ended_at: int

    def state(self, now: float) -> str:
        """Return Plum's status word for the call at this moment."""
        if now >= self.ended_at:
            word = self.story.ending.status_raw.lower()
            return "uncalled" if self.story.ending.disposition == "not_attempted" else word
        event, at = max(((name, at) for name, at in self.story.events if at <= now), key=_time, default=("queued", 0))
        if event == "connected" or (event == "dialing" and now < at + RING_SECONDS):
            return event
        return "queued"

    def details(self, now: float) -> dict[str, Any]:
        """Return the fields of the status API at this moment, with Plum's names."""
        if now >= self.ended_at:
            return {**fields(self.story), "status": self.state(now)}
        events = tuple((name, at) for name, at in self.story.events if at <= now)
        attempts = sum(name == "dialing" for name, _ in events)
        ending = Ending(self.state(now), None, "", None)
        return fields(replace(self.story, ending=ending, attempts=attempts, events=events))

    def canceled(self, now: int) -> CallCourse:
        """Return the course of the call if it is canceled at this moment; later events never happen."""
        past_events = [(name, min(at, now)) for name, at in self.story.events if at <= now or name == "queued"]
        attempts = sum(name == "dialing" for name, _ in past_events)
        story = replace(
            self.story,
            ending=CANCELED,
            # Plum shows one attempt for a call that was canceled in the queue.
            attempts=max(attempts, 1),
            events=(*past_events, ("canceled", now)),
        )
        return CallCourse(story, now)


def dial(order: QueueRequest, call_id: int, queued_at: int, rng: random.Random, forms: Encoding) -> CallCourse:
    """Return the course of the call: it is dialled within its window, up to `max_attempts`, until it is answered."""
    ending = _ending(order, rng)
    attempts = dialled(rng, ending, order.max_attempts)
    events = line_events(rng, ending, attempts, order.reattempt_wait, queued_at, order.start or 0)
    story = CallHistory(
        product=order.product,
        ending=ending,
        phone_number=order.phone_number,
        phone_number_raw=_phone(order, forms),
        call_id=call_id,
        message_reference=order.message_reference or None,
        attempts=attempts,
        max_attempts=order.max_attempts,
        reattempt_wait=order.reattempt_wait,
        queued_at=queued_at,
        window=(order.start, order.end),
        events=tuple(events),
        unanswered_duration=rng.choice((0, None)),
        utc_offset=rng.choice((-8, -5, 0)),
    )
    return _within_window(order, story)


def _ending(order: QueueRequest, rng: random.Random) -> Ending:
    """Draw an ending. Only the cancel API cancels; a call without `end` is never given up without an attempt."""
    endings = {
        ending: weight
        for ending, weight in ENDINGS[order.product].items()
        if ending.disposition != "canceled" and (order.end or ending.disposition != "not_attempted")
    }
    return choose(rng, endings)


def _within_window(order: QueueRequest, story: CallHistory) -> CallCourse:
    last = max(at for _, at in story.events)
    if order.end is None:
        return CallCourse(story, last + _ring_seconds(story))
    attempts = sum(name == "dialing" and at < order.end for name, at in story.events)
    if attempts == 0:
        uncalled = replace(story, ending=UNCALLED[order.product], attempts=0, events=story.events[:1])
        return CallCourse(uncalled, max(order.end, story.events[0][1]))
    if attempts < story.attempts:
        return CallCourse(story.earlier(attempts), order.end)
    return CallCourse(story, last + _ring_seconds(story))


def _ring_seconds(story: CallHistory) -> int:
    return RING_SECONDS if story.events[-1][0] == "dialing" else 0


def _phone(order: QueueRequest, forms: Encoding) -> str:
    """Return the number as queued; Fuse may put quotes around it, as in Plum's sample."""
    is_quoted = order.product == "fuse" and forms.fuse_phone == "quoted"
    return f"'{order.phone_number}'" if is_quoted else order.phone_number


def _time(event: tuple[str, int]) -> int:
    return event[1]
