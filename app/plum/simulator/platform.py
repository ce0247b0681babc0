"""A small version of Plum's platform: accepts calls, dials them on a fast clock, and posts their results."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.plum.simulator.call_histories import fields
from app.plum.simulator.dialling import CallCourse, dial
from app.plum.simulator.posting import Posting
from app.plum.simulator.probing import ProbeFailed, fetch_plain
from app.plum.simulator.queue_requests import QueueRequest, Rejected
from app.plum.simulator.queued_calls import Mishaps, QueuedCall
from app.plum.simulator.scheduler import Scheduler
from app.plum.simulator.wire_forms import ANY_FORM, encode, start_post

# Each product has its own call ids, like those in Plum's samples.
FIRST_CALL_IDS = {"dev": 112850593, "insight": 155761, "fuse": 761}
MAX_CALLS = 100_000
PROBE_SECONDS = 5.0
LATE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the platform behaves.

    `speed` is the number of a call's seconds in one real second; `lose`, `double` and `late` are shares of callbacks.
    """

    seed: int
    speed: float
    lose: float = 0.0
    double: float = 0.0
    late: float = 0.0

    def mishaps(self, rng: random.Random) -> Mishaps:
        """Draw the mishaps of one call. All three are always drawn, so that the shares do not change later draws."""
        lost, doubled, late = (rng.random() < share for share in (self.lose, self.double, self.late))
        return Mishaps(lost, doubled, late)


class Platform:
    """The queue and its calls.

    The course of a call depends on the seed, the product, the number and how often the number was queued before, but
    not on the order of other requests. Each call has its own clock, which starts when the call is queued, so that
    windows keep their meaning however long the platform has been running fast.
    """

    def __init__(self, conduct: Behaviour) -> None:
        self._conduct = conduct
        self._agenda = Scheduler()
        self._posting = Posting()
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str], QueuedCall] = {}
        self._next_ids = dict(FIRST_CALL_IDS)
        self._queued_before: Counter[tuple[str, str]] = Counter()

    def close(self) -> None:
        self._agenda.close(self._posting.abort)

    def queue(self, orders: Sequence[QueueRequest]) -> list[int]:
        """Queue the calls and return their ids, in order. Raises Rejected, and then queues none."""
        _probe(orders[0])
        with self._lock:
            if len(self._calls) + len(orders) > MAX_CALLS:
                raise Rejected(f"This stand-in holds {MAX_CALLS} calls at most; start it anew.")
            placed = [self._place(order) for order in orders]
        for call in placed:
            self._schedule(call)
        return [call.call_id for call in placed]

    def cancel(self, product: str, to: str) -> None:
        """Cancel the calls of the deployment that are in the queue now; calls on the line continue."""
        with self._lock:
            for call in self._calls.values():
                if (call.order.product, call.order.to) == (product, to):
                    self._cancel(call)

    def status(self, product: str, call_id: str, encoding: str) -> tuple[str, bytes] | None:
        """Return content type and body of the status API's response, in `json` or `xml`; None for an unknown call."""
        call = self._calls.get((product, call_id))
        if call is None:
            return None
        wrapper = "wrapped_success" if product == "insight" else "wrapped"
        forms = replace(call.forms, encoding=encoding, wrapper=wrapper, content_type="right")
        headers, body = encode(product, call.course.details(self._now(call)), forms, _seeded_random(call.call_id))
        return headers["Content-Type"], body

    def truth(self) -> Iterator[dict[str, Any]]:
        """Return what really happened to each call until now."""
        with self._lock:
            calls = list(self._calls.values())
        return (call.truth(self._now(call)) for call in calls)

    def _place(self, order: QueueRequest) -> QueuedCall:
        call_id = self._next_ids[order.product]
        self._next_ids[order.product] += 1
        repeats = self._queued_before[order.product, order.phone_number]
        self._queued_before[order.product, order.phone_number] += 1
        rng = _seeded_random(f"{self._conduct.seed} {order.product} {order.phone_number} {repeats}")
        forms, queued_at = ANY_FORM.drawn(rng), int(time.time())
        mishaps = self._conduct.mishaps(rng)
        course = dial(order, call_id, queued_at, rng, forms)
        call = QueuedCall(order, call_id, course, forms, mishaps, queued_at, time.monotonic())
        self._calls[order.product, str(call_id)] = call
        return call

    def _cancel(self, call: QueuedCall) -> None:
        now = self._now(call)
        if not call.is_told and call.course.state(now) == "queued":
            call.course = call.course.canceled(int(now))
            self._schedule_end(call)

    # The call's clock

    def _now(self, call: QueuedCall) -> float:
        return call.queued_at + (time.monotonic() - call.began) * self._conduct.speed

    def _at(self, call: QueuedCall, moment: float) -> float:
        return call.began + (moment - call.queued_at) / self._conduct.speed

    # Posting

    def _schedule(self, call: QueuedCall) -> None:
        course = call.course
        if call.order.start_url:
            for name, at in course.story.events:
                if name == "connected":
                    self._agenda.at(self._at(call, at), lambda: self._start(call, course))
        self._schedule_end(call)

    def _schedule_end(self, call: QueuedCall) -> None:
        course = call.course
        self._agenda.at(self._at(call, course.ended_at), lambda: self._finish(call, course))

    def _start(self, call: QueuedCall, course: CallCourse) -> None:
        if call.course is not course:  # the call was canceled in the meantime
            return
        order = call.order
        headers, body = start_post(
            order.phone_number, str(call.call_id), order.message_reference, order.to, order.call_parameters
        )
        call.starts[self._posting.post(order.start_url, headers, body)] += 1

    def _finish(self, call: QueuedCall, course: CallCourse) -> None:
        """Post the result, unless it is lost, or the call's course was replaced in the meantime."""
        with self._lock:
            if call.course is not course:
                return
            call.is_told = True
        if not call.order.result_url or call.mishaps.lost:
            return
        delay = LATE_SECONDS if call.mishaps.late else 0
        self._agenda.at(self._at(call, course.ended_at + delay), lambda: self._post_result(call))

    def _post_result(self, call: QueuedCall) -> None:
        story = call.course.story
        headers, body = encode(story.product, fields(story), call.forms, _seeded_random(call.call_id))
        for _ in range(2 if call.mishaps.doubled else 1):
            call.answers[self._posting.post(call.order.result_url, headers, body)] += 1


def _seeded_random(seed: int | str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - reproducible, not secret


def _probe(order: QueueRequest) -> None:
    """GET the order's URLs as Plum does before it queues anything; raise Rejected if one does not respond 200."""
    for name, url in (("start_url", order.start_url), ("result_url", order.result_url)):
        try:
            if url:
                fetch_plain(url, PROBE_SECONDS)
        except ProbeFailed:
            raise Rejected(f"The {name} did not answer 200 to GET.") from None
