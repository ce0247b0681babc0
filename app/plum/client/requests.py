"""Requests to queue calls, as values. `limits.py` checks Plum's limits, `forms.py` serialises the requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The fields that a call and a batch have in common. No repr shows phones, metadata, or URLs, which hold a key.

    `to` is Insight's `SURVEY/INSTANCE` or Fuse's `APPLICATION/DEPLOYMENT`; DEV has a `start_url` instead, the URL of
    its VoiceXML. Plum dials between `start` and `end` (aware); without `start` at once, without `end` with no time
    limit. `max_attempts` includes the first attempt; more than one needs `reattempt_wait_seconds`. `pci` requests
    Fuse's secure environment.
    """

    result_url: str = field(repr=False)
    to: str | None = None
    start_url: str | None = field(default=None, repr=False)
    start: datetime | None = None
    end: datetime | None = None
    max_attempts: int | None = None
    reattempt_wait_seconds: int | None = None
    pci: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest(Terms):
    """One call.

    `phone` is in a format that Plum accepts: digits, optionally with `+`, `tel:`, `;ani=…` (the caller's number) and
    `;postd=…` (keys to press). `reference` is DEV's message_reference; Insight and Fuse have no such field, so put it
    into the `result_url` (`/call/REFERENCE`). DEV receives `metadata` as its call_parameters, urlencoded.
    """

    phone: str = field(repr=False)
    reference: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRequest(Terms):
    """Many calls from a contact list: `csv` (UTF-8) with `destination` as its first header.

    DEV reads `message_reference` and `call_parameters` from each row, and takes `name` as its campaign's name; for
    Insight and Fuse put the name into the `result_url` (`/batch/NAME`).
    """

    name: str
    csv: bytes = field(repr=False)
