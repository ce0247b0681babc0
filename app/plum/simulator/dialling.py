"""What becomes of one queued call, drawn once when it is queued. Pure: no clock, no network."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from app.plum.simulator.call_histories import CANCELED, ENDINGS, Ending, Story, fields
from app.plum.simulator.queue_requests import Order
from app.plum.simulator.random_events import dialled, line_events
from app.plum.simulator.wire_forms import Knobs, choose

RING_SECONDS = 20
UNCALLED = {
    "dev": Ending("Failed", "noattempt", "not_attempted", None),
    "insight": Ending("uncalled", None, "not_attempted", None),
    "fuse": Ending("uncalled", None, "not_attempted", None),
}


@dataclass(frozen=True, slots=True)
class Course:
    """All that happens to a call, in Unix seconds; at `ended_at` the result is known and told."""

    story: Story
    ended_at: int

    def state(self, now: float) -> str:
        """Plum's word for the call at this moment."""
        if now >= self.ended_at:
            word = self.story.ending.status_raw.lower()
            return "uncalled" if self.story.ending.disposition == "not_attempted" else word
        event, at = max(((name, at) for name, at in self.story.events if at <= now), key=_when, default=("queued", 0))
        if event == "connected" or (event == "dialing" and now < at + RING_SECONDS):
            return event
        return "queued"

    def details(self, now: float) -> dict[str, Any]:
        """What the status API tells at this moment, in Plum's names."""
        if now >= self.ended_at:
            return {**fields(self.story), "status": self.state(now)}
        events = tuple((name, at) for name, at in self.story.events if at <= now)
        attempts = sum(name == "dialing" for name, _ in events)
        ending = Ending(self.state(now), None, "", None)
        return fields(replace(self.story, ending=ending, attempts=attempts, events=events))

    def canceled(self, now: int) -> Course:
        """The same, but canceled at this moment: what would have come later never happens."""
        happened = [(name, min(at, now)) for name, at in self.story.events if at <= now or name == "queued"]
        attempts = sum(name == "dialing" for name, _ in happened)
        story = replace(
            self.story,
            ending=CANCELED,
            # Plum shows one attempt for a call that was canceled in the queue.
            attempts=max(attempts, 1),
            events=(*happened, ("canceled", now)),
        )
        return Course(story, now)


def dial(order: Order, call_id: int, queued_at: int, rng: random.Random, forms: Knobs) -> Course:
    """The course of the call: it is dialled in its window, as often as it may, until somebody answers."""
    ending = _ending(order, rng)
    attempts = dialled(rng, ending, order.max_attempts)
    events = line_events(rng, ending, attempts, order.reattempt_wait, queued_at, order.start or 0)
    story = Story(
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


def _ending(order: Order, rng: random.Random) -> Ending:
    """Only who cancels cancels; and without an end to its window a call is never given up undialled."""
    endings = {
        ending: weight
        for ending, weight in ENDINGS[order.product].items()
        if ending.disposition != "canceled" and (order.end or ending.disposition != "not_attempted")
    }
    return choose(rng, endings)


def _within_window(order: Order, story: Story) -> Course:
    last = max(at for _, at in story.events)
    if order.end is None:
        return Course(story, last + _ringing(story))
    in_time = sum(name == "dialing" and at < order.end for name, at in story.events)
    if in_time == 0:
        uncalled = replace(story, ending=UNCALLED[order.product], attempts=0, events=story.events[:1])
        return Course(uncalled, max(order.end, story.events[0][1]))
    if in_time < story.attempts:
        return Course(story.earlier(in_time), order.end)
    return Course(story, last + _ringing(story))


def _ringing(story: Story) -> int:
    return RING_SECONDS if story.events[-1][0] == "dialing" else 0


def _phone(order: Order, forms: Knobs) -> str:
    """As queued; Fuse shows it with quotes around, as Plum's sample does."""
    is_quoted = order.product == "fuse" and forms.fuse_phone == "quoted"
    return f"'{order.phone_number}'" if is_quoted else order.phone_number


def _when(event: tuple[str, int]) -> int:
    return event[1]
