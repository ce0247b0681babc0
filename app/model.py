"""The domain model: the values that all other modules work on. `docs/glossary.md` defines each term."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

Json = Any  # a value that `json.loads` returns
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = re.compile(r"\w[\w.\-]{0,63}")


class Product(StrEnum):
    """Plum's three products. Each has its own form of callback."""

    DEV = "dev"
    INSIGHT = "insight"
    FUSE = "fuse"


class Status(StrEnum):
    """Plum's word for the result, in lower case: `result` in DEV's callbacks, `status` in the others."""

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
    """What distinguishes one call from another, as in the contract's identity table."""

    REFERENCE = "reference"
    CALL_ID = "call_id"
    DERIVED = "derived"
    NONE = "none"


class Verdict(StrEnum):
    """The effect of a delivery on its outcome."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantined"
    STARTED = "started"
    SPOOLED = "spooled"  # durable, but not yet in the store


class Via(StrEnum):
    """How a delivery arrived."""

    HTTP = "http"
    SPOOL = "spool"
    IMPORT = "import"
    POLL = "poll"


class CallState(StrEnum):
    """The state of an expected call."""

    WAITING = "waiting"
    RECEIVED = "received"
    MISSING = "missing"  # its window and the grace period are over, and no result has arrived
    POLLED = "polled"  # Plum's status API gave its result
    UNKNOWN_TO_PLUM = "unknown_to_plum"
    REFUSED = "refused"  # Plum refused to queue it, or to report on it


class HoldKind(StrEnum):
    """What a legal hold protects from pruning and erasing."""

    INTEGRATION = "integration"  # everything that this integration sent
    CALL = "call"  # one outcome and all deliveries about it


class Problem(NamedTuple):
    """A value that does not parse. It never costs the rest of the delivery.

    `field` is Plum's name as sent (`events[2].timestamp` where nested); `value` is the value as sent.
    """

    field: str
    value: Json
    problem: str


def has_content_coding(headers: Iterable[Sequence[str]]) -> bool:
    """True if the headers, pairs of name and value, name a content coding, so that the body may inflate."""
    return any(name.casefold() == "content-encoding" for name, _ in headers)


class Delivery(NamedTuple):
    """Our verbatim record of one callback. `product` is the one that its integration declares, None for `auto`."""

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
    cut_short: bool = False  # the sender disconnected before its body was complete
    started: bool = False  # it came to a start_url: the call connects, and has no result yet

    @property
    def size(self) -> int:
        return len(self.body)

    @property
    def is_encoded(self) -> bool:
        return has_content_coding(self.headers)

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.body).digest()


class Sent(NamedTuple):
    """A value and the name under which Plum sent it."""

    name: str
    value: Json


class ExpectedCall(NamedTuple):
    """One queued call whose result has to arrive.

    Its `id` is derived from what identifies its result: the reference of its `result_url`, else Plum's call id,
    else the batch and the phone number.
    """

    id: UUID
    integration: str
    reference: str | None
    call_id: str | None
    phone_number: str | None  # E.164
    batch: str | None
    ends_at: datetime | None  # the end of its calling window
    metadata: Mapping[str, Json]
    state: CallState
    registered_at: datetime
    queued_at: datetime | None = None  # the time of Plum's response; None if others queued the call
    polled_at: datetime | None = None
    outcome_id: UUID | None = None
    due_at: datetime | None = None  # when to look for its result; None if there is nothing left to do
    polls: int = 0


class Report(NamedTuple):
    """A callback's values in our field names, not yet validated. `fields` lacks the names that were not sent."""

    product: Product
    fields: Mapping[str, Sent]
    status: Status
    callee_type: CalleeType | None
    events: tuple[tuple[Sent, Sent], ...]  # pairs of name and timestamp
    extra: Mapping[str, Json]
    problems: tuple[Problem, ...]
    body_bytes: int  # of the body as it was parsed, which may be compressed in the delivery


class Event(NamedTuple):
    event: str | None
    at: datetime | None


class Outcome(NamedTuple):
    """One call's result in the schema that all products share. An unknown value is None, never 0 or "".

    The fields have the order of the contract's record. Users do not see `digest`, the hash of the values that
    were read (see `normalise`).
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
    """A parsed delivery, or the reason why it does not parse. Exactly one of `outcome` and `reason` is set; neither
    is if the delivery reports the start of a call.

    `outcome` holds what this one delivery says; the fold of a call's readings is the call's outcome.
    """

    delivery: Delivery
    outcome: Outcome | None = None
    reason: str | None = None
    problems: tuple[Problem, ...] = ()
    normaliser: str = ""
    start_of: UUID | None = None  # for the start of an identified call, its `identity.start_id`
    body_bytes: int = 0  # of the body as it was parsed, if it has an outcome

    @property
    def verdict(self) -> Verdict:
        """The verdict on this delivery alone; the fold may find it to be a duplicate or superseded."""
        if self.outcome:
            return Verdict.APPLIED
        return Verdict.QUARANTINED if self.reason else Verdict.STARTED


class Receipt(NamedTuple):
    """What the store did with a delivery.

    `disposition` is that of its outcome if it is new or has changed. `is_new` is True if the store did not have
    this delivery before.
    """

    delivery_id: UUID
    verdict: Verdict
    outcome_id: UUID | None = None
    reason: str | None = None
    disposition: Disposition | None = None
    is_new: bool = False


def networks(text: str) -> tuple[Network, ...]:
    """Parse a list like `10.0.0.0/8,192.168.1.7`. Raises `ValueError`."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def checked_name(text: str) -> str:
    """Return the name of an integration or token if it is allowed. Raises `ValueError` with a message for users."""
    if not _NAME.fullmatch(text):
        shown = text if len(text) <= 80 else f"{text[:79]}…"
        raise ValueError(f"{shown!r}: use 1 to 64 letters, digits, dots, dashes and underscores")
    return text


def hashed(secret: str) -> bytes:
    """Return the SHA-256 of a key or token. Secrets of 128 random bits need no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Integration:
    """One configured sender. `product` None means `auto`: each body tells its product.

    Posts are accepted only from the networks `allowed_from`, unless that is empty, and only with the password
    of `password_hash`, unless that is None.
    """

    name: str
    product: Product | None
    script: str | None = None  # the VoiceXML that its calls get when they connect
    allowed_from: tuple[Network, ...] = ()
    password_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class KnownKey:
    """The integration of a key. `expires_at` None means that the key does not expire."""

    integration: Integration
    expires_at: datetime | None


class Scope(StrEnum):
    """What an API token permits. Each scope includes the one before it."""

    READ = "read"
    REVEAL = "reveal"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        return list(Scope).index(self) >= list(Scope).index(other)


class DriftKind(StrEnum):
    """What is new: a word in a known field, a field, or a parse problem of a known field's value."""

    WORD = "word"
    FIELD = "field"
    PROBLEM = "problem"


class Novelty(NamedTuple):
    """Something new in a callback. `value` is the word, the JSON type of the unknown field, or the problem's code."""

    kind: DriftKind
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Token:
    """An analyst's API token. The secret itself is not stored."""

    name: str
    scope: Scope


class AuditEntry(NamedTuple):
    """One access to phone numbers or bodies, one export, or one change. The fields are those of the audit record.

    `asked` has the names and values of the request's parameters, without possible phone numbers. `status` is None
    if the entry is written before the response's status is known.
    """

    id: UUID
    at: datetime
    who: str
    what: str
    asked: list[tuple[str, str]]
    record_id: UUID | None = None
    remote_addr: str | None = None
    status: int | None = None
