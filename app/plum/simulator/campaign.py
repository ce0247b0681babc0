"""A campaign: many calls, the posts that Plum makes about them, and how a network can trouble those.

Pure: the same arguments give the same calls, bytes and truth for ever; no clock, no network.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from app.plum.simulator.call_histories import Story, fields
from app.plum.simulator.expected_outcomes import truth
from app.plum.simulator.random_calls import Teller
from app.plum.simulator.wire_forms import ANY_FORM, FORM, JSON, XML, Knobs, choose, encode, headers

BASE = datetime(2026, 1, 5, 12, tzinfo=UTC)

PRODUCTS = {"dev": 40, "insight": 30, "fuse": 30}  # → weight where a target takes all of them

ADDRESSES = {  # what follows the key in the URL → weight
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

NOISE = (  # reason of quarantine, content type, body
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
    """A `result_url` and the product whose calls it gets; None where it takes all three (`auto`)."""

    url: str
    product: str | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """From `[dev=|insight=|fuse=]URL`; raises ValueError, saying what to give, for anything else."""
        prefix, _, rest = text.partition("=")
        product, url = (prefix, rest) if prefix in PRODUCTS else (None, text)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{text!r} is not a target: give [dev=|insight=|fuse=]http(s)://HOST/result/KEY")
        return cls(url, product)

    def below(self, *segments: str) -> str:
        """The URL with these segments, percent-encoded, at the end of its path."""
        parts = urlsplit(self.url)
        path = "/".join((parts.path.rstrip("/"), *(quote(segment) for segment in segments)))
        return urlunsplit(parts._replace(path=path))


@dataclass
class Post:
    """One POST as Plum makes it. `turn` is its place: posts go out by rising turns."""

    url: str
    headers: dict[str, str]
    body: bytes
    turn: float
    acknowledged: bool = False


@dataclass
class Call:
    """One call: what is posted about it, and the outcome record (the contract's fields) that it should give.

    Posts of an `ordered` call wait each for the answer to the one before; others may overtake one another.
    """

    target: Target
    truth: dict[str, Any]
    posts: list[Post]
    ordered: bool = False

    @property
    def acknowledged(self) -> bool:
        """Whether every post was; only then does the receiver owe the whole of the truth."""
        return all(post.acknowledged for post in self.posts)


@dataclass
class Noise:
    """A post that tells of no call, and the reason with which it should be quarantined."""

    target: Target
    post: Post
    reason: str


def campaign(
    targets: Sequence[Target],
    calls: int,
    seed: int,
    knobs: Knobs = ANY_FORM,
    *,
    misbehave: bool = False,
    base: datetime = BASE,
) -> list[Call]:
    """So many calls, the first queued at `base` (aware).

    With `misbehave` posts go out in no order, and some calls are posted twice, or once more in an older state
    after the final one, or have a DEV call_id in common with a call of another outbound server, or a whole
    Insight body with another call.
    """
    dialler = _Dialler(targets, seed, knobs, misbehave=misbehave, base=int(base.timestamp()))
    made: list[Call] = []
    while len(made) < calls:
        made += dialler.dial()
    del made[calls:]
    _mark_possible_duplicates(made)
    return made


def noise(targets: Sequence[Target], calls: int, seed: int) -> list[Noise]:
    """What belongs to a misbehaving campaign of so many calls; each kind at least once."""
    rng = random.Random(f"noise of {seed}")  # noqa: S311 - to be repeated, not to be secret
    made = []
    for number in range(max(len(NOISE), int(calls * NOISE_SHARE))):
        reason, content_type, body = NOISE[number % len(NOISE)]
        target = rng.choice(targets)
        made.append(Noise(target, Post(target.url, headers(content_type, body), body, rng.random()), reason))
    return made


def _mark_possible_duplicates(calls: Sequence[Call]) -> None:
    nameless = [call for call in calls if call.truth["identity"] == "none"]
    seen = Counter((call.target.url, call.posts[0].body) for call in nameless)
    for call in nameless:
        call.truth["possible_duplicate"] = seen[call.target.url, call.posts[0].body] > 1


class _Dialler:
    """Turns stories into calls and their posts."""

    def __init__(
        self,
        targets: Sequence[Target],
        seed: int,
        knobs: Knobs,
        *,
        misbehave: bool,
        base: int,
    ) -> None:
        self._targets = targets
        self._rng = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self._knobs = knobs
        self._misbehave = misbehave
        self._teller = Teller(self._rng, base)

    def dial(self) -> list[Call]:
        """The next call, with those that come along: the rest of a cancelled queue, or a lookalike."""
        target = self._rng.choice(self._targets)
        product = target.product or choose(self._rng, PRODUCTS)
        address = choose(self._rng, ADDRESSES[product])
        forms = self._knobs.drawn(self._rng)
        if product == "insight" and self._chance(CANCELLED_QUEUE_SHARE):
            stories = self._teller.cancelled_queue(self._rng.randint(*CANCELLED_QUEUE_CALLS), forms)
            return [self._call(target, story, forms, address) for story in stories]
        story = self._teller.story(product, forms)
        call = self._call(target, story, forms, address)
        return self._troubled(call, story, forms) if self._misbehave else [call]

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share

    def _call(self, target: Target, story: Story, forms: Knobs, address: str) -> Call:
        reference = self._teller.name() if address == "call" else None
        batch = self._rng.choice(BATCHES) if address == "batch" else None
        url = target.url
        if reference is not None:
            url = target.below("call", reference)
        if batch is not None:
            url = target.below("batch", batch)
        return Call(target, truth(story, reference, batch), [self._post(url, story, forms)])

    def _post(self, url: str, story: Story, forms: Knobs) -> Post:
        said, body = encode(story.product, fields(story), forms, self._rng)
        return Post(url, said, body, self._rng.random() if self._misbehave else story.told_at)

    # Misbehaviour

    def _troubled(self, call: Call, story: Story, forms: Knobs) -> list[Call]:
        identity = call.truth["identity"]
        if identity != "none":
            self._repeat(call, story, forms)
        if identity == "none" and self._chance(LOOKALIKE_SHARE):
            return [call, self._same_body(call)]
        if identity == "call_id" and self._chance(LOOKALIKE_SHARE):
            return [call, self._other_server(call, story, forms)]
        return [call]

    def _repeat(self, call: Call, story: Story, forms: Knobs) -> None:
        if self._chance(DUPLICATE_SHARE):
            call.posts.append(self._again(call.posts[0], story, forms))
        if story.attempts > 1 and self._chance(LATE_SHARE):
            before = story.earlier(self._rng.randrange(1, story.attempts))
            call.posts.append(self._post(call.posts[0].url, before, forms))
            call.ordered = True
        call.truth["deliveries"] = len(call.posts)

    def _again(self, first: Post, story: Story, forms: Knobs) -> Post:
        """The same reading: the same bytes or another encoding, at the same moment or any other."""
        turn = self._rng.choice((first.turn, self._rng.random()))
        if self._chance(0.5):
            return replace(first, turn=turn)
        # The phone stays as sent, for it belongs to the identity, and with it the encoding it asks for.
        others = replace(self._knobs, dev_phone=forms.dev_phone).drawn(self._rng)
        return replace(self._post(first.url, story, others), turn=turn)

    def _same_body(self, call: Call) -> Call:
        """Another Insight call of which Plum tells exactly the same."""
        return Call(call.target, {**call.truth}, [replace(call.posts[0], turn=self._rng.random())])

    def _other_server(self, call: Call, story: Story, forms: Knobs) -> Call:
        """A call with the same call_id, from another outbound server: reference or phone tell them apart."""
        other = replace(self._teller.story("dev", forms), call_id=story.call_id)
        if other.phone_number_raw != story.phone_number_raw and self._chance(0.5):
            other = replace(other, message_reference=story.message_reference)
        elif other.message_reference is None:
            other = replace(other, message_reference=self._teller.name())
        return self._call(call.target, other, forms, "batch" if call.truth["batch"] else "plain")
