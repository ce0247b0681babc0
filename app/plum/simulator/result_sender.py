"""Plays the sender of results: probes, then posts the results of a campaign, and tells what came of it."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from app.plum.simulator.campaign import Call, Noise, Post
from app.plum.simulator.connections import NO_ANSWER, Connections
from app.plum.simulator.wire_forms import ACKNOWLEDGEMENT, start_post

VOICEXML = "http://www.w3.org/2001/vxml"  # https://www.w3.org/TR/voicexml20/
NO_VOICEXML = "NoVoiceXml"
WRONG_TEXT = "WrongText"  # the kind of error of a 2xx that does not say it


@dataclass(frozen=True)
class Summary:
    """What came of the posts. Latencies are of answered posts, by nearest rank, None if there were none."""

    posted: int
    acknowledged: int
    refused: Mapping[int, int]  # status → posts
    errors: Mapping[str, int]  # exception's name or `WRONG_TEXT` → posts
    seconds: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    unacknowledged: Sequence[Call]  # the calls with a post that was not

    @property
    def per_second(self) -> float:
        return self.posted / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON; of the unacknowledged calls only how many."""
        return {
            "posted": self.posted,
            "acknowledged": self.acknowledged,
            "refused": {str(status): count for status, count in sorted(self.refused.items())},
            "errors": dict(sorted(self.errors.items())),
            "seconds": round(self.seconds, 3),
            "per_second": round(self.per_second, 1),
            "p50_ms": self.p50_ms,
            "p95_ms": self.p95_ms,
            "p99_ms": self.p99_ms,
            "unacknowledged": len(self.unacknowledged),
        }


@dataclass(frozen=True)
class Starts:
    """How many starts were posted, and what was wrong with how many of the answers."""

    started: int
    failures: Mapping[str, int]


def start(calls: Iterable[Call], url: str, concurrency: int, timeout: float) -> Starts:
    """Posts the start of each DEV call that connects, and looks whether VoiceXML comes back."""
    connected = [call for call in calls if call.truth["product"] == "dev" and call.truth["answered_by"]]
    with ThreadPoolExecutor(concurrency) as pool:
        wrong = list(pool.map(lambda call: _start(call, url, timeout), connected))
    return Starts(len(connected), Counter(filter(None, wrong)))


def _start(call: Call, url: str, timeout: float) -> str | None:
    """What is wrong with the answer."""
    phone_number, reference = call.truth["phone_number_raw"], call.truth["message_reference"]
    said, body = start_post(phone_number, call.truth["call_id"], reference or "", "simulated", "")
    connections = Connections(timeout)
    try:
        status, text = connections.exchange("POST", url, said, body)
    except NO_ANSWER as error:
        return type(error).__name__
    finally:
        connections.close()
    return str(status) if status != 200 else None if _is_voicexml(text) else NO_VOICEXML


def _is_voicexml(text: bytes) -> bool:
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  the answer of the receiver that is tried out
    except ElementTree.ParseError:
        return False
    return root.tag == f"{{{VOICEXML}}}vxml" and root.get("version") == "2.0"


def run(
    calls: Sequence[Call],
    noise: Sequence[Noise],
    concurrency: int,
    progress: Callable[[int], None],
    timeout: float,
) -> Summary:
    """Posts all of it, at most `concurrency` at a time, and marks the posts that were acknowledged.

    No post is tried again: nobody knows whether Plum would. `timeout` is in seconds, for each step on the
    network. `progress` is called with the number of posts just made, never by two threads at once.
    """
    waiting = deque(_sequences(calls, noise))
    lock = threading.Lock()

    def made(posts: int) -> None:
        with lock:
            progress(posts)

    began = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            tallies = list(pool.map(lambda _: _work(waiting, timeout, made), range(concurrency)))
        finally:
            waiting.clear()  # an interrupted run ends with the posts under way
    return _summary(tallies, calls, time.perf_counter() - began)


def expectations(calls: Iterable[Call]) -> Iterator[dict[str, Any]]:
    """After a run, what the receiver owes for each call: `result_url`, `acknowledged`, `outcome`."""
    for call in calls:
        yield {"result_url": call.target.url, "acknowledged": call.acknowledged, "outcome": call.truth}


def _sequences(calls: Sequence[Call], noise: Sequence[Noise]) -> list[list[Post]]:
    """The posts by turn; those in one list wait for one another."""
    sequences = [[unwanted.post] for unwanted in noise]
    for call in calls:
        sequences += [call.posts] if call.ordered else [[post] for post in call.posts]
    return sorted(sequences, key=lambda posts: posts[0].turn)


@dataclass
class _Tally:
    acknowledged: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)


def _work(waiting: deque[list[Post]], timeout: float, made: Callable[[int], None]) -> _Tally:
    tally, connections = _Tally(), Connections(timeout)
    while True:
        try:
            posts = waiting.popleft()
        except IndexError:
            break
        for post in posts:
            _post(post, connections, tally)
            made(1)
    connections.close()
    return tally


def _post(post: Post, connections: Connections, tally: _Tally) -> None:
    began = time.perf_counter()
    try:
        status, text = connections.exchange("POST", post.url, post.headers, post.body)
    except NO_ANSWER as error:
        tally.errors[type(error).__name__] += 1
        return
    tally.latencies.append(time.perf_counter() - began)
    if not 200 <= status < 300:
        tally.refused[status] += 1
    elif text != ACKNOWLEDGEMENT:
        tally.errors[WRONG_TEXT] += 1
    else:
        tally.acknowledged += 1
        post.acknowledged = True


def _summary(tallies: Sequence[_Tally], calls: Sequence[Call], seconds: float) -> Summary:
    refused = sum((tally.refused for tally in tallies), Counter[int]())
    errors = sum((tally.errors for tally in tallies), Counter[str]())
    acknowledged = sum(tally.acknowledged for tally in tallies)
    latencies = sorted(latency for tally in tallies for latency in tally.latencies)
    return Summary(
        posted=acknowledged + refused.total() + errors.total(),
        acknowledged=acknowledged,
        refused=refused,
        errors=errors,
        seconds=seconds,
        p50_ms=_percentile_ms(latencies, 0.50),
        p95_ms=_percentile_ms(latencies, 0.95),
        p99_ms=_percentile_ms(latencies, 0.99),
        unacknowledged=[call for call in calls if not call.acknowledged],
    )


def _percentile_ms(latencies: Sequence[float], share: float) -> float | None:
    if not latencies:
        return None
    return round(latencies[math.ceil(share * len(latencies)) - 1] * 1000, 2)
