"""What is to be queued, as values. `limits.py` holds what Plum allows, `forms.py` how Plum spells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a call and a batch have in common. No repr shows phones, metadata, or URLs (they hold a key).

    `to` is Insight's `SURVEY/INSTANCE` or Fuse's `APPLICATION/DEPLOYMENT`; DEV has a `start_url` instead, the address
    of its VoiceXML. `start` and `end` (aware) bound the dialling; without them Plum dials at once, and as long as it
    likes. `max_attempts` counts the first one; more than one needs `reattempt_wait_seconds`. `pci` asks Fuse for its
    secure environment.
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

    `phone` as Plum takes it: digits, also with `+`, `tel:`, `;ani=…` (the caller's number) and `;postd=…` (keys to
    press). `reference` is DEV's message_reference; Insight and Fuse have no field for it, so that it belongs into the
    `result_url` (`/call/REFERENCE`). DEV gets `metadata` as its call_parameters, urlencoded.
    """

    phone: str = field(repr=False)
    reference: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRequest(Terms):
    """Many calls from Plum's contact list: `csv` (UTF-8) with `destination` as its first header.

    DEV reads `message_reference` and `call_parameters` per row and calls the batch a campaign, `name`; for the others
    the name belongs into the `result_url` (`/batch/NAME`).
    """

    name: str
    csv: bytes = field(repr=False)
