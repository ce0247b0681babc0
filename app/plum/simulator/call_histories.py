"""The history of one call, and the fields that each of Plum's products reports of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any


@dataclass(frozen=True)
class Ending:
    """One way for a call to end: Plum's words, and the words of our outcome schema for the same."""

    status_raw: str
    callee_type: str | None
    disposition: str
    answered_by: str | None


DEV_ENDINGS = {  # ending → weight
    Ending("Completed", "voice", "answered", "human"): 40,
    Ending("Completed", "answeringmachine", "answered", "machine"): 22,
    Ending("Completed", "faxmachine", "answered", "fax"): 2,
    Ending("Completed", "unknown", "answered", None): 2,
    Ending("Failed", "noanswer", "no_answer", None): 14,
    Ending("Failed", "busy", "busy", None): 7,
    Ending("Failed", "informationtone", "failed", None): 4,
    Ending("Failed", "linefailure", "failed", None): 3,
    Ending("Failed", "unknown", "failed", None): 2,
    Ending("Failed", "noattempt", "not_attempted", None): 2,
    Ending("Uncalled", "noattempt", "not_attempted", None): 2,
}
CALL_DETAILS_ENDINGS = {
    Ending("completed", None, "answered", None): 55,
    Ending("failed", None, "failed", None): 22,
    Ending("canceled", None, "canceled", None): 9,
    Ending("rejected", None, "rejected", None): 6,
    Ending("uncalled", None, "not_attempted", None): 8,
}
ENDINGS = {"dev": DEV_ENDINGS, "insight": CALL_DETAILS_ENDINGS, "fuse": CALL_DETAILS_ENDINGS}

CANCELED = Ending("canceled", None, "canceled", None)
NOT_YET = {  # the ending that a call with attempts left would report if its result were posted too early
    "dev": Ending("Failed", "noanswer", "no_answer", None),
    "insight": Ending("failed", None, "failed", None),
    "fuse": Ending("failed", None, "failed", None),
}

EXPIRES_AFTER_SECONDS = 86400


@dataclass(frozen=True)
class CallHistory:
    """The history of one call before it is serialised; times are Unix seconds.

    `events` are those of the telephone line, in order, even if the product does not report them.
    """

    product: str
    ending: Ending
    phone_number: str
    phone_number_raw: str
    call_id: int
    message_reference: str | None
    attempts: int
    max_attempts: int
    reattempt_wait: int
    queued_at: int
    window: tuple[int | None, int | None]
    events: tuple[tuple[str, int], ...]
    unanswered_duration: int | None
    utc_offset: int | None

    def last(self, event: str | None = None) -> int | None:
        """Return the time of the last such event, None if there is none. `event` None means any event."""
        return max((at for name, at in self.events if event in (None, name)), default=None)

    @property
    def talk_seconds(self) -> int | None:
        connected, disconnected = self.last("connected"), self.last("disconnected")
        return None if connected is None or disconnected is None else disconnected - connected

    @property
    def duration(self) -> int | None:
        """The duration as the product sends it. For an unanswered call DEV and Fuse send 0 or nothing."""
        if self.product == "insight":
            return None
        return self.unanswered_duration if self.talk_seconds is None else self.talk_seconds

    @property
    def last_attempt_at(self) -> int | None:
        """The time as the product sends it: Insight's is the last event, not the last dialling; Fuse has none."""
        if self.product == "dev":
            return self.last("dialing")
        return self.last() if self.product == "insight" and self.attempts else None

    @property
    def scheduled(self) -> tuple[int | None, int | None]:
        """`start_timestamp` and `end_timestamp`: Insight's window; for Fuse the start and end of the talk."""
        return (self.last("connected"), self.last("disconnected")) if self.product == "fuse" else self.window

    @property
    def told_at(self) -> int:
        """The time when Plum posts the result: when the call ends or expires."""
        expiry = EXPIRES_AFTER_SECONDS if self.ending.disposition == "not_attempted" else 0
        return max(at for _, at in self.events) + expiry

    def earlier(self, attempts: int) -> CallHistory:
        """Return the call as it was after so many attempts, fewer than its final number."""
        diallings = [index for index, (event, _) in enumerate(self.events) if event == "dialing"]
        return replace(
            self,
            ending=NOT_YET[self.product],
            attempts=attempts,
            events=self.events[: diallings[attempts - 1] + 1],
        )


def fields(story: CallHistory) -> dict[str, Any]:
    """Return the callback's fields, with Plum's names."""
    return _dev_fields(story) if story.product == "dev" else _call_details(story)


def _dev_fields(story: CallHistory) -> dict[str, Any]:
    return {
        "phone_number": story.phone_number_raw,
        "message_reference": story.message_reference,
        "call_id": story.call_id,
        "result": story.ending.status_raw,
        "callee_type": story.ending.callee_type,
        "attempts": story.attempts,
        "last_attempt_timestamp": _rfc2822(story.last_attempt_at, story.utc_offset),
        "duration": story.duration,
    }


def _call_details(story: CallHistory) -> dict[str, Any]:
    start, end = story.scheduled
    common = {
        "status": story.ending.status_raw,
        "attempts": story.attempts,
        "max_attempts": story.max_attempts,
        "queued_timestamp": story.queued_at,
        "start_timestamp": start,
        "end_timestamp": end,
        "reattempt_wait": story.reattempt_wait,
        "events": [{"event": event, "timestamp": at} for event, at in story.events],
    }
    if story.product == "insight":
        return {**common, "last_attempt_timestamp": story.last_attempt_at}
    return {**common, "phone_number": story.phone_number_raw, "duration": story.duration}


def _rfc2822(at: int | None, utc_offset: int | None) -> str | None:
    if at is None:
        return None
    if utc_offset is None:
        return format_datetime(datetime.fromtimestamp(at, UTC).replace(tzinfo=None))
    return format_datetime(datetime.fromtimestamp(at, timezone(timedelta(hours=utc_offset))))
