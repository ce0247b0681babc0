"""Plum's platform in small: takes orders, dials them on a fast clock, and posts what came of them."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.plum.simulator.call_histories import fields
from app.plum.simulator.dialling import Course, dial
from app.plum.simulator.posting import Posting
from app.plum.simulator.probing import ProbeFailed, fetch_plain
from app.plum.simulator.queue_requests import Order, Rejected
from app.plum.simulator.queued_calls import Mishaps, Placed
from app.plum.simulator.scheduler import Agenda
from app.plum.simulator.wire_forms import ANY_FORM, encode, start_post

# Each product has numbers of its own, as Plum's samples show them.
FIRST_CALL_IDS = {"dev": 112850593, "insight": 155761, "fuse": 761}
MAX_CALLS = 100_000
PROBE_SECONDS = 5.0
LATE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Conduct:
    """How the platform behaves.

    `speed` is how many seconds of a call pass in one of ours; `lose`, `double` and `late` are shares of callbacks.
    """

    seed: int
    speed: float
    lose: float = 0.0
    double: float = 0.0
    late: float = 0.0

    def mishaps(self, rng: random.Random) -> Mishaps:
        """Those of one call; drawn whether or not there are any, so that they change nothing else."""
        lost, doubled, late = (rng.random() < share for share in (self.lose, self.double, self.late))
        return Mishaps(lost, doubled, late)


class Platform:
    """The queue and its calls.

    What becomes of a call depends on seed, product, number and how often the number was queued before: it is the same
    whatever the order of the requests. Each call's clock begins when it is queued, so that windows mean the same
    however long the platform has been running fast.
    """

    def __init__(self, conduct: Conduct) -> None:
        self._conduct = conduct
        self._agenda = Agenda()
        self._posting = Posting()
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str], Placed] = {}
        self._next_ids = dict(FIRST_CALL_IDS)
        self._queued_before: Counter[tuple[str, str]] = Counter()

    def close(self) -> None:
        self._agenda.close(self._posting.abort)

    def queue(self, orders: Sequence[Order]) -> list[int]:
        """The calls' ids, in order; raises Rejected, and then none is queued."""
        _probe(orders[0])
        with self._lock:
            if len(self._calls) + len(orders) > MAX_CALLS:
                raise Rejected(f"This stand-in holds {MAX_CALLS} calls at most; start it anew.")
            placed = [self._place(order) for order in orders]
        for call in placed:
            self._schedule(call)
        return [call.call_id for call in placed]

    def cancel(self, product: str, to: str) -> None:
        """Cancels the calls of the deployment that are in the queue now; who is on the line stays there."""
        with self._lock:
            for call in self._calls.values():
                if (call.order.product, call.order.to) == (product, to):
                    self._cancel(call)

    def status(self, product: str, call_id: str, encoding: str) -> tuple[str, bytes] | None:
        """What the status API tells of the call now, in `json` or `xml`: content type and body. None without it."""
        call = self._calls.get((product, call_id))
        if call is None:
            return None
        wrapper = "wrapped_success" if product == "insight" else "wrapped"
        forms = replace(call.forms, encoding=encoding, wrapper=wrapper, content_type="right")
        headers, body = encode(product, call.course.details(self._now(call)), forms, _repeatable(call.call_id))
        return headers["Content-Type"], body

    def truth(self) -> Iterator[dict[str, Any]]:
        """What really happened to each call until now."""
        with self._lock:
            calls = list(self._calls.values())
        return (call.truth(self._now(call)) for call in calls)

    def _place(self, order: Order) -> Placed:
        call_id = self._next_ids[order.product]
        self._next_ids[order.product] += 1
        nth = self._queued_before[order.product, order.phone_number]
        self._queued_before[order.product, order.phone_number] += 1
        known = f"{self._conduct.seed} {order.product} {order.phone_number} {nth}"
        rng = _repeatable(known)
        forms, queued_at = ANY_FORM.drawn(rng), int(time.time())
        mishaps = self._conduct.mishaps(rng)
        course = dial(order, call_id, queued_at, rng, forms)
        call = Placed(order, call_id, course, forms, mishaps, queued_at, time.monotonic())
        self._calls[order.product, str(call_id)] = call
        return call

    def _cancel(self, call: Placed) -> None:
        now = self._now(call)
        if not call.is_told and call.course.state(now) == "queued":
            call.course = call.course.canceled(int(now))
            self._schedule_end(call)

    # The call's clock

    def _now(self, call: Placed) -> float:
        return call.queued_at + (time.monotonic() - call.began) * self._conduct.speed

    def _at(self, call: Placed, moment: float) -> float:
        return call.began + (moment - call.queued_at) / self._conduct.speed

    # Posting

    def _schedule(self, call: Placed) -> None:
        course = call.course
        if call.order.start_url:
            for name, at in course.story.events:
                if name == "connected":
                    self._agenda.at(self._at(call, at), lambda: self._start(call, course))
        self._schedule_end(call)

    def _schedule_end(self, call: Placed) -> None:
        course = call.course
        self._agenda.at(self._at(call, course.ended_at), lambda: self._end(call, course))

    def _start(self, call: Placed, course: Course) -> None:
        if call.course is not course:  # canceled meanwhile
            return
        order = call.order
        headers, body = start_post(
            order.phone_number, str(call.call_id), order.message_reference, order.to, order.call_parameters
        )
        call.starts[self._posting.post(order.start_url, headers, body)] += 1

    def _end(self, call: Placed, course: Course) -> None:
        """Posts the result, unless it is lost, or the call came to another end meanwhile."""
        with self._lock:
            if call.course is not course:
                return
            call.is_told = True
        if not call.order.result_url or call.mishaps.lost:
            return
        delay = LATE_SECONDS if call.mishaps.late else 0
        self._agenda.at(self._at(call, course.ended_at + delay), lambda: self._tell(call))

    def _tell(self, call: Placed) -> None:
        story = call.course.story
        headers, body = encode(story.product, fields(story), call.forms, _repeatable(call.call_id))
        for _ in range(2 if call.mishaps.doubled else 1):
            call.answers[self._posting.post(call.order.result_url, headers, body)] += 1


def _repeatable(seed: int | str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - to be repeated, not to be secret


def _probe(order: Order) -> None:
    """As Plum does before it queues anything."""
    for name, url in (("start_url", order.start_url), ("result_url", order.result_url)):
        try:
            if url:
                fetch_plain(url, PROBE_SECONDS)
        except ProbeFailed:
            raise Rejected(f"The {name} did not answer 200 to GET.") from None
