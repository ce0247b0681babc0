"""Send the results of a campaign as Plum does, and summarise the responses."""

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
WRONG_TEXT = "WrongText"  # the error of a 2xx response without the acknowledgement's text


@dataclass(frozen=True)
class Summary:
    """The results of the posts. Latencies are nearest-rank percentiles of answered posts, None if there are none."""

    posted: int
    acknowledged: int
    refused: Mapping[int, int]  # status → posts
    errors: Mapping[str, int]  # exception's name or `WRONG_TEXT` → posts
    seconds: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    unacknowledged: Sequence[Call]  # calls with at least one unacknowledged post

    @property
    def per_second(self) -> float:
        return self.posted / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON, with only the number of the unacknowledged calls."""
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
    """The number of starts posted, and of failed responses by error."""

    started: int
    failures: Mapping[str, int]


def start(calls: Iterable[Call], url: str, concurrency: int, timeout: float) -> Starts:
    """Post the start of each DEV call that connects, and check that the response is VoiceXML."""
    connected = [call for call in calls if call.truth["product"] == "dev" and call.truth["answered_by"]]
    with ThreadPoolExecutor(concurrency) as pool:
        errors = list(pool.map(lambda call: _start(call, url, timeout), connected))
    return Starts(len(connected), Counter(filter(None, errors)))


def _start(call: Call, url: str, timeout: float) -> str | None:
    """Post the start of one call; return the error of the response, None if there is none."""
    phone_number, reference = call.truth["phone_number_raw"], call.truth["message_reference"]
    headers, body = start_post(phone_number, call.truth["call_id"], reference or "", "simulated", "")
    connections = Connections(timeout)
    try:
        status, text = connections.exchange("POST", url, headers, body)
    except NO_ANSWER as error:
        return type(error).__name__
    finally:
        connections.close()
    return str(status) if status != 200 else None if _is_voicexml(text) else NO_VOICEXML


def _is_voicexml(text: bytes) -> bool:
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  the response of the receiver under test
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
    """Post everything, at most `concurrency` posts at a time, and mark the posts that were acknowledged.

    No post is retried, since it is unknown whether Plum retries. `timeout` is in seconds, for each network operation.
    `progress` is called with the number of posts just made, never by two threads at once.
    """
    queue = deque(_sequences(calls, noise))
    lock = threading.Lock()

    def report(posts: int) -> None:
        with lock:
            progress(posts)

    began = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            tallies = list(pool.map(lambda _: _work(queue, timeout, report), range(concurrency)))
        finally:
            queue.clear()  # an interrupted run ends after the current posts
    return _summary(tallies, calls, time.perf_counter() - began)


def expectations(calls: Iterable[Call]) -> Iterator[dict[str, Any]]:
    """Yield what the receiver must have for each call after a run: `result_url`, `acknowledged`, `outcome`."""
    for call in calls:
        yield {"result_url": call.target.url, "acknowledged": call.acknowledged, "outcome": call.truth}


def _sequences(calls: Sequence[Call], noise: Sequence[Noise]) -> list[list[Post]]:
    """Return the posts by turn; the posts in one list are sent one after the other."""
    sequences = [[item.post] for item in noise]
    for call in calls:
        sequences += [call.posts] if call.ordered else [[post] for post in call.posts]
    return sorted(sequences, key=lambda posts: posts[0].turn)


@dataclass
class _Tally:
    acknowledged: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)


def _work(queue: deque[list[Post]], timeout: float, report: Callable[[int], None]) -> _Tally:
    tally, connections = _Tally(), Connections(timeout)
    while True:
        try:
            posts = queue.popleft()
        except IndexError:
            break
        for post in posts:
            _post(post, connections, tally)
            report(1)
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
