"""Draw the histories of a campaign's calls at random, in realistic shares."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

from app.plum.simulator.call_histories import CANCELED, ENDINGS, CallHistory
from app.plum.simulator.random_events import dialled, line_events
from app.plum.simulator.wire_forms import Encoding, choose, dev_phone, fuse_phone

# Numbers reserved for fiction: nobody's phone rings if a body leaks into a real queue.
US_AREAS = (
    202,
    206,
    212,
    213,
    214,
    303,
    305,
    312,
    404,
    415,
    503,
    512,
    602,
    612,
    617,
    702,
    713,
    773,
    808,
    907,
)
ABROAD = {  # prefix → number of further digits
    "+1416555010": 1,
    "+442079460": 3,
    "+493023125": 3,
    "+3319900": 4,
    "+6125550": 4,
}

NAMES = {  # format of a client's own id → weight
    "appt-{}": 80,
    "{}": 8,
    "2026/01/{}": 5,
    "Müller & Söhne #{}": 4,
    "50%+{}": 3,
}

MAX_ATTEMPTS = {1: 35, 2: 15, 3: 15, 4: 8, 5: 7, 6: 5, 7: 4, 8: 3, 9: 3, 10: 3, 11: 2}
UTC_OFFSETS = {-5: 60, -8: 20, 0: 15, None: 5}  # hours in DEV's RFC 2822 text → weight; None is its "-0000"
ABROAD_SHARE = 0.08
NAMED_SHARE = 0.8

WINDOW_SECONDS = 8 * 3600


class RandomCalls:
    """Draws stories. No two have the same call_id, message_reference or second of queueing."""

    def __init__(self, rng: random.Random, base: int) -> None:
        self._rng = rng
        self._base = base
        self._stories = itertools.count()
        self._names = itertools.count(1)

    def story(self, product: str, forms: Encoding) -> CallHistory:
        rng = self._rng
        number = next(self._stories)
        queued_at = self._base + number
        ending = choose(rng, ENDINGS[product])
        # DEV counts retries in addition to the first attempt.
        max_attempts = min(choose(rng, MAX_ATTEMPTS), 11 if product == "dev" else 10)
        reattempt_wait = rng.choice((60, 300, 900, 3600) if max_attempts > 1 else (0, 300))
        attempts = dialled(rng, ending, max_attempts)
        phone_number = self._phone()
        return CallHistory(
            product=product,
            ending=ending,
            phone_number=phone_number,
            phone_number_raw=(
                dev_phone(phone_number, forms.dev_phone)
                if product == "dev"
                else fuse_phone(phone_number, forms.fuse_phone)
            ),
            call_id=112850593 + number,
            message_reference=self.name() if self._chance(NAMED_SHARE) else None,
            # Insight reports one attempt for a call cancelled in the queue, without a dialing event.
            attempts=max(attempts, 1) if ending == CANCELED else attempts,
            max_attempts=max_attempts,
            reattempt_wait=reattempt_wait,
            queued_at=queued_at,
            window=self._window(queued_at) if product == "insight" else (None, None),
            events=tuple(line_events(rng, ending, attempts, reattempt_wait, queued_at)),
            unanswered_duration=rng.choice((0, None)),
            utc_offset=choose(rng, UTC_OFFSETS),
        )

    def cancelled_queue(self, calls: int, forms: Encoding) -> list[CallHistory]:
        """Return Insight calls that one request cancelled, all at the same moment."""
        stories = [self.story("insight", forms) for _ in range(calls)]
        cancelled_at = stories[-1].queued_at + 60
        return [
            replace(
                story,
                ending=CANCELED,
                attempts=1,
                events=(("queued", story.queued_at), ("canceled", cancelled_at)),
            )
            for story in stories
        ]

    def name(self) -> str:
        """Return a new id as a client would write its own."""
        return choose(self._rng, NAMES).format(next(self._names))

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share

    def _window(self, queued_at: int) -> tuple[int, int] | tuple[None, None]:
        opens_at = queued_at - queued_at % 3600
        return self._rng.choice(((None, None), (opens_at, opens_at + WINDOW_SECONDS)))

    def _phone(self) -> str:
        if self._chance(ABROAD_SHARE):
            prefix = self._rng.choice(list(ABROAD))
            return prefix + self._digits(ABROAD[prefix])
        return f"+1{self._rng.choice(US_AREAS)}55501{self._digits(2)}"

    def _digits(self, count: int) -> str:
        return "".join(self._rng.choices("0123456789", k=count))
