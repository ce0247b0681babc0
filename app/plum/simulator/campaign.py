"""A campaign: many calls, Plum's posts about them, and the errors that a network can cause.

Pure: the same arguments always give the same calls, bytes and truth; no clock, no network.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from app.plum.simulator.call_histories import CallHistory, fields
from app.plum.simulator.expected_outcomes import expected_outcome
from app.plum.simulator.random_calls import RandomCalls
from app.plum.simulator.wire_forms import ANY_FORM, FORM, JSON, XML, Encoding, choose, encode, headers

BASE = datetime(2026, 1, 5, 12, tzinfo=UTC)

PRODUCTS = {"dev": 40, "insight": 30, "fuse": 30}  # → weight, for a target that takes all products

ADDRESSES = {  # kind of path after the key in the URL → weight
    "dev": {"plain": 70, "batch": 20, "call": 10},
    "insight": {"call": 50, "batch": 30, "plain": 20},
    "fuse": {"plain": 60, "batch": 25, "call": 15},
}
BATCHES = ("reminders-2026-01", "Spring survey", "west/phase 2")

CANCELLED_QUEUE_SHARE = 0.015
CANCELLED_QUEUE_CALLS = (5, 15)

DUPLICATE_SHARE = 0.08
LATE_SHARE = 0.2  # of the calls with more than one attempt
LOOKALIKE_SHARE = 0.08  # of the calls that can have one
NOISE_SHARE = 0.02

NOISE = (  # reason for the quarantine, content type, body
    ("empty", FORM, b" \r\n"),
    ("not_text", "application/octet-stream", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00"),
    ("not_json", JSON, b'{"status":"completed","attempts":'),
    ("not_form", "multipart/form-data; boundary=cut", b"--cut\r\nContent-Disposition: form-da"),
    ("not_xml", XML, b"<result><call_details><status>completed</sta"),
    ("too_deep", JSON, b"[" * 5000 + b"]" * 5000),
    ("no_known_field", JSON, b'{"hello":"world"}'),
    ("no_known_field", FORM, b"hello=world&answer=42"),
)


@dataclass(frozen=True)
class Target:
    """A `result_url` and the product whose calls it gets; None if it takes all three (`auto`)."""

    url: str
    product: str | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse `[dev=|insight=|fuse=]URL`. Raises ValueError, with advice, for anything else."""
        prefix, _, rest = text.partition("=")
        product, url = (prefix, rest) if prefix in PRODUCTS else (None, text)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{text!r} is not a target: give [dev=|insight=|fuse=]http(s)://HOST/result/KEY")
        return cls(url, product)

    def below(self, *segments: str) -> str:
        """Return the URL with these segments, percent-encoded, appended to its path."""
        parts = urlsplit(self.url)
        path = "/".join((parts.path.rstrip("/"), *(quote(segment) for segment in segments)))
        return urlunsplit(parts._replace(path=path))


@dataclass
class Post:
    """One POST as Plum sends it. Posts are sent in the order of their `turn`."""

    url: str
    headers: dict[str, str]
    body: bytes
    turn: float
    acknowledged: bool = False


@dataclass
class Call:
    """One call: its posts, and the outcome record that the receiver should make of them.

    Each post of an `ordered` call waits for the response to the previous one; other posts may overtake each other.
    """

    target: Target
    truth: dict[str, Any]
    posts: list[Post]
    ordered: bool = False

    @property
    def acknowledged(self) -> bool:
        """True if every post was acknowledged; only then must the receiver have the whole truth."""
        return all(post.acknowledged for post in self.posts)


@dataclass
class Noise:
    """A post that reports no call, and the reason with which it should be quarantined."""

    target: Target
    post: Post
    reason: str


def campaign(
    targets: Sequence[Target],
    calls: int,
    seed: int,
    knobs: Encoding = ANY_FORM,
    *,
    misbehave: bool = False,
    base: datetime = BASE,
) -> list[Call]:
    """Return so many calls, the first queued at `base` (aware).

    With `misbehave` posts are sent in random order. Some calls are posted twice, or once more in an older state
    after the final one, or share a DEV call_id with a call of another outbound server, or a whole Insight body
    with another call.
    """
    dialler = _Dialler(targets, seed, knobs, misbehave=misbehave, base=int(base.timestamp()))
    dialled: list[Call] = []
    while len(dialled) < calls:
        dialled += dialler.dial()
    del dialled[calls:]
    _mark_possible_duplicates(dialled)
    return dialled


def noise(targets: Sequence[Target], calls: int, seed: int) -> list[Noise]:
    """Return the noise of a misbehaving campaign of so many calls; each kind at least once."""
    rng = random.Random(f"noise of {seed}")  # noqa: S311 - reproducible, not secret
    garbage = []
    for number in range(max(len(NOISE), int(calls * NOISE_SHARE))):
        reason, content_type, body = NOISE[number % len(NOISE)]
        target = rng.choice(targets)
        garbage.append(Noise(target, Post(target.url, headers(content_type, body), body, rng.random()), reason))
    return garbage


def _mark_possible_duplicates(calls: Sequence[Call]) -> None:
    nameless = [call for call in calls if call.truth["identity"] == "none"]
    seen = Counter((call.target.url, call.posts[0].body) for call in nameless)
    for call in nameless:
        call.truth["possible_duplicate"] = seen[call.target.url, call.posts[0].body] > 1


class _Dialler:
    """Makes calls and their posts from stories."""

    def __init__(
        self,
        targets: Sequence[Target],
        seed: int,
        knobs: Encoding,
        *,
        misbehave: bool,
        base: int,
    ) -> None:
        self._targets = targets
        self._rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._knobs = knobs
        self._misbehave = misbehave
        self._teller = RandomCalls(self._rng, base)

    def dial(self) -> list[Call]:
        """Return the next call, with the calls that belong to it: the rest of a cancelled queue, or a lookalike."""
        target = self._rng.choice(self._targets)
        product = target.product or choose(self._rng, PRODUCTS)
        address = choose(self._rng, ADDRESSES[product])
        forms = self._knobs.drawn(self._rng)
        if product == "insight" and self._chance(CANCELLED_QUEUE_SHARE):
            stories = self._teller.cancelled_queue(self._rng.randint(*CANCELLED_QUEUE_CALLS), forms)
            return [self._call(target, story, forms, address) for story in stories]
        story = self._teller.story(product, forms)
        call = self._call(target, story, forms, address)
        return self._misbehaving(call, story, forms) if self._misbehave else [call]

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share

    def _call(self, target: Target, story: CallHistory, forms: Encoding, address: str) -> Call:
        reference = self._teller.name() if address == "call" else None
        batch = self._rng.choice(BATCHES) if address == "batch" else None
        url = target.url
        if reference is not None:
            url = target.below("call", reference)
        if batch is not None:
            url = target.below("batch", batch)
        return Call(target, expected_outcome(story, reference, batch), [self._post(url, story, forms)])

    def _post(self, url: str, story: CallHistory, forms: Encoding) -> Post:
        post_headers, body = encode(story.product, fields(story), forms, self._rng)
        return Post(url, post_headers, body, self._rng.random() if self._misbehave else story.told_at)

    # Misbehaviour

    def _misbehaving(self, call: Call, story: CallHistory, forms: Encoding) -> list[Call]:
        identity = call.truth["identity"]
        if identity != "none":
            self._repeat(call, story, forms)
        if identity == "none" and self._chance(LOOKALIKE_SHARE):
            return [call, self._same_body(call)]
        if identity == "call_id" and self._chance(LOOKALIKE_SHARE):
            return [call, self._other_server(call, story, forms)]
        return [call]

    def _repeat(self, call: Call, story: CallHistory, forms: Encoding) -> None:
        if self._chance(DUPLICATE_SHARE):
            call.posts.append(self._duplicate(call.posts[0], story, forms))
        if story.attempts > 1 and self._chance(LATE_SHARE):
            before = story.earlier(self._rng.randrange(1, story.attempts))
            call.posts.append(self._post(call.posts[0].url, before, forms))
            call.ordered = True
        call.truth["deliveries"] = len(call.posts)

    def _duplicate(self, first: Post, story: CallHistory, forms: Encoding) -> Post:
        """Return a post with the same reading: the same bytes or another encoding, at the same or another time."""
        turn = self._rng.choice((first.turn, self._rng.random()))
        if self._chance(0.5):
            return replace(first, turn=turn)
        # The phone's form stays the same, since the phone belongs to the identity; so does the encoding it requires.
        others = replace(self._knobs, dev_phone=forms.dev_phone).drawn(self._rng)
        return replace(self._post(first.url, story, others), turn=turn)

    def _same_body(self, call: Call) -> Call:
        """Return another Insight call with exactly the same body."""
        return Call(call.target, {**call.truth}, [replace(call.posts[0], turn=self._rng.random())])

    def _other_server(self, call: Call, story: CallHistory, forms: Encoding) -> Call:
        """Return a call of another outbound server with the same call_id; its reference or phone differs."""
        other = replace(self._teller.story("dev", forms), call_id=story.call_id)
        if other.phone_number_raw != story.phone_number_raw and self._chance(0.5):
            other = replace(other, message_reference=story.message_reference)
        elif other.message_reference is None:
            other = replace(other, message_reference=self._teller.name())
        return self._call(call.target, other, forms, "batch" if call.truth["batch"] else "plain")
