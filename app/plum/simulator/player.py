"""Plays the sender of results: probes, then posts the results of a campaign, and tells what came of it."""

from __future__ import annotations

import http.client
import math
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

from app.plum.simulator.campaign import Call, Noise, Post, Target
from app.plum.simulator.wire_forms import FORM

ACKNOWLEDGEMENT = b"completed"
VOICEXML = "http://www.w3.org/2001/vxml"  # https://www.w3.org/TR/voicexml20/
NO_VOICEXML = "NoVoiceXml"
WRONG_TEXT = "WrongText"  # the kind of error of a 2xx that does not say it

ADVICE = {  # what to do about a probe's answer, by status
    **dict.fromkeys((301, 302, 303, 307, 308), "Plum follows no redirect, so give the address it leads to"),
    **dict.fromkeys((401, 403), "Plum cannot log in, so leave result_url open and its key secret"),
    404: "the key is unknown or disabled, so compare the URL with the one that `integration add` printed",
    405: "Plum probes with GET, so let the receiver answer GET as well as POST",
    503: "the receiver is not ready, so see what its /readyz says",
}


class ProbeFailed(Exception):
    """Plum would refuse to queue calls; the text says in one line why, and what to do."""


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


def probe(target: Target, timeout: float = 10.0) -> None:
    """GETs the target as Plum does before calls go out; raises ProbeFailed if that stops the queue operation.

    `timeout` in seconds, for each step on the network.
    """
    text = _probed(target.url, timeout)
    if text != ACKNOWLEDGEMENT:
        raise ProbeFailed(f"{target.url} answers {text[:40]!r}, not 'completed': give a result_url of the receiver")


def probe_start(url: str, timeout: float = 10.0) -> None:
    """The same of a `start_url`, of which a plain 200 is all that is asked."""
    Target.parse(url)
    _probed(url, timeout)


def _probed(url: str, timeout: float) -> bytes:
    connections = _Connections(timeout)
    try:
        status, text = connections.exchange("GET", url, {"Accept": "*/*"})
    except (OSError, http.client.HTTPException) as error:
        kind = type(error).__name__
        raise ProbeFailed(f"{url} gives no answer ({kind}): is it up, and the URL right?") from error
    finally:
        connections.close()
    if status != 200:
        advice = ADVICE.get(status, "Plum takes a plain 200 only, so see the receiver's log")
        raise ProbeFailed(f"{url} answers {status} to GET: {advice}")
    return text


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
    fields = {
        "phone_number": call.truth["phone_number_raw"],
        "call_id": call.truth["call_id"],
        "message_reference": call.truth["message_reference"] or "",
        "campaign_parameters": "simulated",
        "call_parameters": "",
    }
    connections = _Connections(timeout)
    try:
        status, text = connections.exchange("POST", url, {"Content-Type": FORM}, urlencode(fields).encode())
    except (OSError, http.client.HTTPException) as error:
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
    tally, connections = _Tally(), _Connections(timeout)
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


def _post(post: Post, connections: _Connections, tally: _Tally) -> None:
    began = time.perf_counter()
    try:
        status, text = connections.exchange("POST", post.url, post.headers, post.body)
    except (OSError, http.client.HTTPException) as error:
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


class _Connections:
    """One worker's keep-alive connections, one to each host."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._open: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Status and text of the answer; raises OSError or HTTPException if there is none.

        The body follows `Expect: 100-continue` at once, as RFC 9110 allows; http.client skips the 100.
        """
        parts = urlsplit(url)
        connection = self._connection(parts.scheme, parts.netloc)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        try:
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()

    def _connection(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        if (scheme, netloc) not in self._open:
            kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
            self._open[scheme, netloc] = kind(netloc, timeout=self._timeout)
        connection = self._open[scheme, netloc]
        if _left_by_peer(connection):
            connection.close()
        return connection


def _left_by_peer(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection was closed at the other end: as curl does, look before using it again."""
    if connection.sock is None:
        return False
    watch = select.poll()
    watch.register(connection.sock, select.POLLIN)
    return bool(watch.poll(0))
