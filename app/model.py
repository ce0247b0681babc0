"""The nouns. Everything else in this package is a verb on them; `docs/glossary.md` tells them in prose."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

Json = Any  # what `json.loads` gives
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = re.compile(r"\w[\w.\-]{0,63}")


class Product(StrEnum):
    """Plum's three products, each with its own form of callback."""

    DEV = "dev"
    INSIGHT = "insight"
    FUSE = "fuse"


class Status(StrEnum):
    """Plum's outcome word, `result` under DEV and `status` elsewhere, without case."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"
    UNCALLED = "uncalled"
    UNKNOWN = "unknown"


class CalleeType(StrEnum):
    """DEV's nine words for who or what answered."""

    VOICE = "voice"
    ANSWERINGMACHINE = "answeringmachine"
    FAXMACHINE = "faxmachine"
    BUSY = "busy"
    NOANSWER = "noanswer"
    INFORMATIONTONE = "informationtone"
    LINEFAILURE = "linefailure"
    NOATTEMPT = "noattempt"
    UNKNOWN = "unknown"


class Disposition(StrEnum):
    """How the call ended: the one word to compare across products."""

    ANSWERED = "answered"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELED = "canceled"
    NOT_ATTEMPTED = "not_attempted"
    UNKNOWN = "unknown"


class AnsweredBy(StrEnum):
    HUMAN = "human"
    MACHINE = "machine"
    FAX = "fax"


class Identity(StrEnum):
    """What tells one call from another; the contract's identity table."""

    REFERENCE = "reference"
    CALL_ID = "call_id"
    DERIVED = "derived"
    NONE = "none"


class Verdict(StrEnum):
    """What a delivery did to its outcome."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantined"
    STARTED = "started"
    SPOOLED = "spooled"  # durable, but not yet in the store


class Via(StrEnum):
    """The way a delivery came in."""

    HTTP = "http"
    SPOOL = "spool"
    IMPORT = "import"
    POLL = "poll"


class CallState(StrEnum):
    """What is known of a call that was queued."""

    WAITING = "waiting"
    RECEIVED = "received"
    MISSING = "missing"  # past its window and the grace, and no result
    POLLED = "polled"  # its result was asked for
    UNKNOWN_TO_PLUM = "unknown_to_plum"
    REFUSED = "refused"  # by Plum, to queue it or to tell of it


class HoldKind(StrEnum):
    """What a legal hold keeps from being pruned or erased."""

    INTEGRATION = "integration"  # all that it sent
    CALL = "call"  # one outcome and what was received about it


class Problem(NamedTuple):
    """A value that could not be taken as it stands; it never costs the row.

    `field` is Plum's name as sent (`events[2].timestamp` where nested), `value` as sent.
    """

    field: str
    value: Json
    problem: str


class Delivery(NamedTuple):
    """Our verbatim record of one callback. `product` is what its integration declares, None for auto."""

    id: UUID
    integration: str
    received_at: datetime
    body: bytes
    product: Product | None = None
    via: Via = Via.HTTP
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""
    remote_addr: str | None = None
    reference: str | None = None
    batch: str | None = None
    cut_short: bool = False  # the sender hung up before its body was whole
    started: bool = False  # of a start_url: a call connects, and its result is yet to come

    @property
    def size(self) -> int:
        return len(self.body)

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.body).digest()


class Sent(NamedTuple):
    """A value together with the name under which Plum sent it."""

    name: str
    value: Json


class ExpectedCall(NamedTuple):
    """One call that was queued and whose result is to come.

    Its `id` is made of what its result will be known by: the reference of its `result_url`, else Plum's call id,
    else the batch and the number.
    """

    id: UUID
    integration: str
    reference: str | None
    call_id: str | None
    phone_number: str | None  # E.164
    batch: str | None
    ends_at: datetime | None  # of its window
    metadata: Mapping[str, Json]
    state: CallState
    registered_at: datetime
    queued_at: datetime | None = None  # when Plum's answer came; None also where others queued it
    polled_at: datetime | None = None
    outcome_id: UUID | None = None
    due_at: datetime | None = None  # when to look for its result; None where nothing is to be done any more
    polls: int = 0


class Report(NamedTuple):
    """What a product says, in our field names, unjudged. A name that was not sent is missing from `fields`."""

    product: Product
    fields: Mapping[str, Sent]
    status: Status
    callee_type: CalleeType | None
    events: tuple[tuple[Sent, Sent], ...]  # (name, timestamp) of each
    extra: Mapping[str, Json]
    problems: tuple[Problem, ...]


class Event(NamedTuple):
    event: str | None
    at: datetime | None


class Outcome(NamedTuple):
    """One call's result in the one schema, as far as its deliveries tell. Unknown is None, never 0 or "".

    Fields stand in the order of the contract's record; `digest` is the one that users do not see: what was
    read, whatever its encoding (see `normalise`).
    """

    id: UUID
    integration: str
    product: Product
    identity: Identity
    call_id: str | None
    message_reference: str | None
    reference: str | None
    batch: str | None
    phone_number: str | None
    phone_number_raw: str | None
    status: Status
    status_raw: str | None
    callee_type: CalleeType | None
    callee_type_raw: str | None
    disposition: Disposition
    answered_by: AnsweredBy | None
    attempts: int | None
    max_attempts: int | None
    reattempt_wait_seconds: int | None
    duration_seconds: int | None
    queued_at: datetime | None
    start_at: datetime | None
    end_at: datetime | None
    last_attempt_at: datetime | None
    connected_at: datetime | None
    disconnected_at: datetime | None
    ended_at: datetime
    received_at: datetime
    updated_at: datetime
    events: tuple[Event, ...]
    extra: Mapping[str, Json]
    problems: tuple[Problem, ...]
    deliveries: int
    possible_duplicate: bool
    normaliser: str
    metadata: Mapping[str, Json]
    digest: str


class Reading(NamedTuple):
    """A delivery understood, or the reason why it was not. Exactly one of `outcome` and `reason` is set, and neither
    where the delivery says that a call has started.

    `outcome` is the call as this one delivery tells it; folding the readings of a call gives its outcome.
    """

    delivery: Delivery
    outcome: Outcome | None = None
    reason: str | None = None
    problems: tuple[Problem, ...] = ()
    normaliser: str = ""
    start_of: UUID | None = None  # of a start that names its call, by `identity.start_id`

    @property
    def verdict(self) -> Verdict:
        """By itself; the fold may find that its outcome knew as much or more."""
        if self.outcome:
            return Verdict.APPLIED
        return Verdict.QUARANTINED if self.reason else Verdict.STARTED


class Receipt(NamedTuple):
    """What became of a delivery. `disposition` is what its outcome came to, where it is new or has changed.

    `is_new`: the store did not have this delivery before.
    """

    delivery_id: UUID
    verdict: Verdict
    outcome_id: UUID | None = None
    reason: str | None = None
    disposition: Disposition | None = None
    is_new: bool = False


def networks(text: str) -> tuple[Network, ...]:
    """Those of `10.0.0.0/8,192.168.1.7`. Raises `ValueError`."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def checked_name(text: str) -> str:
    """What an integration or a token may be called. Raises `ValueError` in words."""
    if not _NAME.fullmatch(text):
        shown = text if len(text) <= 80 else f"{text[:79]}…"
        raise ValueError(f"{shown!r}: use 1 to 64 letters, digits, dots, dashes and underscores")
    return text


def hashed(secret: str) -> bytes:
    """What is kept of a key or token: of 128 random bits no slow hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Integration:
    """One configured sender. `product` None means auto: told from each body; `script` None means the default one.

    Posts come from `allowed_from` alone, where that is not empty, and with the password of this hash, where one is.
    """

    name: str
    product: Product | None
    script: str | None = None  # the VoiceXML that its calls hear when they connect
    allowed_from: tuple[Network, ...] = ()
    password_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class KnownKey:
    """Whom a key opens for, and until when; None: no end is set."""

    integration: Integration
    expires_at: datetime | None


class Scope(StrEnum):
    """What an API token may see or do; each includes the one before."""

    READ = "read"
    REVEAL = "reveal"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        return list(Scope).index(self) >= list(Scope).index(other)


class DriftKind(StrEnum):
    """In which way something is new: a word of a known field, a field, or how a known field's value did not read."""

    WORD = "word"
    FIELD = "field"
    PROBLEM = "problem"


class Novelty(NamedTuple):
    """Something that nobody knows: the word, the JSON type of an unknown field, or the problem's code, by field."""

    kind: DriftKind
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Token:
    """An analyst's token, by its name; the secret itself is known to its owner alone."""

    name: str
    scope: Scope


class AuditEntry(NamedTuple):
    """Who saw phone numbers or bodies, took data out, or changed something; the fields are the record's.

    `asked` has the parameters' names and values, with what may be a phone number left out. `status` is None where
    the entry is written before the answer is known.
    """

    id: UUID
    at: datetime
    who: str
    what: str
    asked: list[tuple[str, str]]
    record_id: UUID | None = None
    remote_addr: str | None = None
    status: int | None = None
