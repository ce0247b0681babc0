"""Plum's probe: Plum GETs the URLs of calls before it queues them."""

from __future__ import annotations

from app.plum.simulator.campaign import Target
from app.plum.simulator.connections import NO_ANSWER, Connections
from app.plum.simulator.wire_forms import ACKNOWLEDGEMENT

ADVICE = {  # status of a failed probe → advice
    **dict.fromkeys((301, 302, 303, 307, 308), "Plum follows no redirect, so give the address it leads to"),
    **dict.fromkeys((401, 403), "Plum cannot log in, so leave result_url open and its key secret"),
    404: "the key is unknown or disabled, so compare the URL with the one that `integration add` printed",
    405: "Plum probes with GET, so let the receiver answer GET as well as POST",
    503: "the receiver is not ready, so see what its /readyz says",
}


class ProbeFailed(Exception):
    """Plum would refuse to queue calls; the message says in one line why, and what to do."""


def probe(target: Target, timeout: float = 10.0) -> None:
    """GET the target as Plum does before it queues calls. Raises ProbeFailed if Plum would refuse to queue.

    `timeout` is in seconds, for each network operation.
    """
    text = fetch_plain(target.url, timeout)
    if text != ACKNOWLEDGEMENT:
        raise ProbeFailed(f"{target.url} answers {text[:40]!r}, not 'completed': give a result_url of the receiver")


def probe_start(url: str, timeout: float = 10.0) -> None:
    """Probe a `start_url`, which only has to respond with a plain 200."""
    Target.parse(url)
    fetch_plain(url, timeout)


def fetch_plain(url: str, timeout: float) -> bytes:
    """GET the URL and return the body. Raises ProbeFailed for anything but a plain 200."""
    connections = Connections(timeout)
    try:
        status, text = connections.exchange("GET", url, {"Accept": "*/*"})
    except NO_ANSWER as error:
        kind = type(error).__name__
        raise ProbeFailed(f"{url} gives no answer ({kind}): is it up, and the URL right?") from error
    finally:
        connections.close()
    if status != 200:
        advice = ADVICE.get(status, "Plum takes a plain 200 only, so see the receiver's log")
        raise ProbeFailed(f"{url} answers {status} to GET: {advice}")
    return text
