"""A queued call of the platform, with the responses to its posts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from app.plum.simulator.dialling import CallCourse
from app.plum.simulator.queue_requests import QueueRequest
from app.plum.simulator.wire_forms import Encoding


@dataclass(frozen=True, slots=True)
class Mishaps:
    """What goes wrong with the callback of one call."""

    lost: bool
    doubled: bool
    late: bool


@dataclass(slots=True)
class QueuedCall:
    """One call. Its clock starts when it is queued: `queued_at` in Unix seconds, `began` in monotonic seconds."""

    order: QueueRequest
    call_id: int
    course: CallCourse
    forms: Encoding
    mishaps: Mishaps
    queued_at: int
    began: float
    is_told: bool = False
    answers: Counter[str] = field(default_factory=Counter)  # for results: status or exception's name → posts
    starts: Counter[str] = field(default_factory=Counter)  # the same for starts

    def truth(self, now: float) -> dict[str, Any]:
        """Return what really happened until `now` on the call's clock."""
        story, is_final = self.course.story, now >= self.course.ended_at
        return {
            "product": self.order.product,
            "call_id": str(self.call_id),
            "to": self.order.to,
            "result_url": self.order.result_url,
            "phone_number": self.order.phone_number,
            "message_reference": self.order.message_reference or None,
            "status": self.course.state(now),
            "is_final": is_final,
            "callee_type": story.ending.callee_type if is_final else None,
            "attempts": story.attempts if is_final else None,
            "ended_at": self.course.ended_at if is_final else None,
            "lost": self.mishaps.lost,
            "doubled": self.mishaps.doubled,
            "late": self.mishaps.late,
            "posts": dict(self.answers),
            "starts": dict(self.starts),
        }
