"""Plum's face: the probe, and each call's result.

Plum may post a result exactly once and takes only a plain 200 for an answer, so nothing is refused for its content.
This is plain WSGI, in front of the framework: on the path of a callback its hooks would cost more than the commit.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes, urlsplit
from uuid import UUID

from app import metrics
from app.config import MAX_HELD_BYTES, Network
from app.errors import NotFound, PlumError
from app.model import Delivery, Integration
from app.values import storable
from app.web.errors import RETRY_AFTER, BodyTooLarge, Overloaded, status_of
from app.web.parts import Parts, now

PREFIX = "/result/"
ACKNOWLEDGEMENT = b"completed"
MAX_REFERENCE = 255
CHUNK_BYTES = 65536
# A sender that is still writing does not see a 413 before it is done, so this much is read and thrown away.
DRAIN_BYTES = 16 * 1048576
QUIET_SECONDS = 5.0  # between two log lines about refused posts

_URL = re.compile(r"/result/([^/]+)(?:/(call|batch)/(.+?))?/?", re.S)
_SECRET_HEADER = re.compile(r"auth|cookie|token|secret|password|api-?key|signature", re.I)
_METHODS = "GET, HEAD, POST"
_REFUSALS = {NotFound: "unknown_key", BodyTooLarge: "too_large", Overloaded: "overload"}

log = logging.getLogger(__name__)

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Answer(NamedTuple):
    status: str
    text: bytes
    headers: Sequence[tuple[str, str]] = ()


class Address(NamedTuple):
    """What a result_url says: whose key, and of `call/REFERENCE` or `batch/NAME` the one that is there."""

    key: str
    reference: str | None
    batch: str | None


class ResultFace:
    """WSGI: answers below `/result/`, and leaves all else to `rest`."""

    def __init__(self, rest: Wsgi, parts: Parts) -> None:
        self._rest = rest
        self._parts = parts
        self._held_bytes = 0
        self._quiet_until = 0.0

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        found = _URL.fullmatch(_path(environ)) if environ["PATH_INFO"].startswith(PREFIX) else None
        if found is None:
            return self._rest(environ, start_response)
        status, text, headers = self._answer(environ, found)
        plain = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
        start_response(status, [*plain, *headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [text]

    def _answer(self, environ: Environ, found: re.Match[str]) -> Answer:
        try:
            return self._receive(environ, _address(found))
        except PlumError as error:
            status, headers = status_of(error)
            if status.startswith("503"):
                self._log_refusal(error)
            metrics.REFUSED.labels(reason=_REFUSALS.get(type(error), "store_unavailable")).inc()
            return Answer(status, f"{error}\n".encode(), headers)
        except Exception as error:
            log.exception("unexpected failure of a post", exc_info=error)
            metrics.REFUSED.labels(reason="unexpected").inc()
            return Answer("503 Service Unavailable", b"an unexpected failure\n", [RETRY_AFTER])

    def _log_refusal(self, error: PlumError) -> None:
        """Not each: refusals come in floods, and a metric counts them."""
        if time.monotonic() > self._quiet_until:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            log.error("posts are refused: %s", error)

    def _receive(self, environ: Environ, address: Address) -> Answer:
        """Acknowledge a probe at once, and a result when it is durable."""
        started = time.perf_counter()
        integration = self._parts.keyring.integrations.get(address.key)
        if integration is None:
            raise NotFound("no integration has this key; see: plum-outcomes integration list")
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return _probed()
        if environ["REQUEST_METHOD"] != "POST":
            return Answer("405 Method Not Allowed", b"GET, HEAD or POST\n", [("Allow", _METHODS)])
        body, whole = self._read_body(environ)
        try:
            if whole and not body:
                return _probed()
            delivery = _delivery(environ, integration, address, body, whole, self._parts.settings.trusted_proxies)
            receipt = self._parts.writer.submit(delivery)
        finally:
            self._held_bytes -= len(body)
        if not whole:
            metrics.REFUSED.labels(reason="cut_short").inc()
            return Answer("400 Bad Request", b"the body ended before its declared length; post it again\n")
        metrics.ACK_SECONDS.observe(time.perf_counter() - started)
        headers = [("X-Delivery-Id", str(receipt.delivery_id)), ("X-Delivery-Verdict", receipt.verdict.value)]
        return Answer("200 OK", ACKNOWLEDGEMENT, headers)

    def _read_body(self, environ: Environ) -> tuple[bytes, bool]:
        """The body's bytes, and whether they are all; they count as held. Raises `BodyTooLarge`, `Overloaded`.

        Counted while reading: a chunked body has no Content-Length.
        """
        limit = self._parts.settings.max_body_bytes
        declared = int(environ["CONTENT_LENGTH"]) if environ.get("CONTENT_LENGTH", "").isdecimal() else None
        if declared is None and not environ.get("wsgi.input_terminated"):
            return b"", True
        if declared is not None and declared > limit + DRAIN_BYTES:
            raise BodyTooLarge(f"the body is larger than {limit} bytes")
        chunks: list[bytes] = []
        size = held = 0
        whole = True
        try:
            for chunk in _chunks(environ["wsgi.input"], limit + DRAIN_BYTES if declared is None else declared):
                if chunk is None:
                    whole = False
                    break
                size += len(chunk)
                if size > limit:
                    continue
                if self._held_bytes + len(chunk) > MAX_HELD_BYTES:
                    raise Overloaded("too many bodies at once; post it again")
                self._held_bytes += len(chunk)
                held += len(chunk)
                chunks.append(chunk)
            if size > limit:
                raise BodyTooLarge(f"the body is larger than {limit} bytes")
        except PlumError:
            self._held_bytes -= held
            raise
        return b"".join(chunks), whole and (declared is None or size == declared)


def _probed() -> Answer:
    metrics.PROBES.inc()
    return Answer("200 OK", ACKNOWLEDGEMENT)


def _path(environ: Environ) -> str:
    """The path as it stands in the request, escaped: decoded, it has lost which slashes belong to a reference."""
    raw = str(environ.get("RAW_URI", "")).partition("?")[0]
    if not raw.startswith("/"):  # the absolute form, as sent to proxies
        raw = urlsplit(raw).path
    raw = raw.removeprefix(environ.get("SCRIPT_NAME", ""))
    return raw if raw.startswith(PREFIX) else quote(environ["PATH_INFO"].encode("latin-1"))


def _address(found: re.Match[str]) -> Address:
    """Raises `NotFound` for a reference or name that is too long."""
    key, kind, tail = found.groups()
    if kind is None:
        return Address(_decoded(key), None, None)
    label = _decoded(tail)
    if len(label) > MAX_REFERENCE:
        raise NotFound(f"a reference or batch name must have 1 to {MAX_REFERENCE} characters")
    return Address(_decoded(key), *((label, None) if kind == "call" else (None, label)))


def _decoded(escaped: str) -> str:
    raw = unquote_to_bytes(escaped)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _chunks(stream: Any, most: int) -> Iterator[bytes | None]:
    """Pieces of the body up to `most` bytes; None where the sender hung up."""
    while most > 0:
        try:
            chunk = stream.read(min(CHUNK_BYTES, most))
        except Exception:  # noqa: BLE001  each server has its own names for a connection that broke
            yield None
            return
        if not chunk:
            return
        most -= len(chunk)
        yield chunk


def _delivery(
    environ: Environ,
    integration: Integration,
    address: Address,
    body: bytes,
    whole: bool,
    trusted: tuple[Network, ...],
) -> Delivery:
    received_at = now()
    forwarded = environ.get("HTTP_X_FORWARDED_FOR")
    return Delivery(
        id=delivery_id(received_at),
        integration=integration.name,
        product=integration.product,
        received_at=received_at,
        content_type=storable(environ.get("CONTENT_TYPE")),
        headers=_kept_headers(environ, address.key),
        query=storable(environ.get("QUERY_STRING")) or "",
        remote_addr=peer(environ.get("REMOTE_ADDR"), forwarded, trusted),
        reference=address.reference,
        batch=address.batch,
        body=body,
        cut_short=not whole,
    )


def delivery_id(moment: datetime) -> UUID:
    """A UUID that sorts by time (version 7, RFC 9562), so that new rows lie beside one another."""
    milliseconds = int(moment.timestamp() * 1000)
    random = int.from_bytes(os.urandom(10))
    value = milliseconds << 80 | random & ((1 << 80) - 1)
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def _kept_headers(environ: Environ, key: str) -> tuple[tuple[str, str], ...]:
    """All that the server passes on, without what is secret: credentials, and the URL's key wherever it stands."""
    return tuple(
        (name, "(secret, not kept)" if _is_secret(name) else value.replace(key, "(key)"))
        for variable, value in environ.items()
        if (name := _header_name(variable))
    )


@lru_cache(maxsize=1024)
def _header_name(variable: str) -> str | None:
    """The header of a CGI variable, or None for one that is no header."""
    if not variable.startswith("HTTP_") and variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        return None
    return variable.removeprefix("HTTP_").replace("_", "-").title()


@lru_cache(maxsize=1024)
def _is_secret(header: str) -> bool:
    return _SECRET_HEADER.search(header) is not None


def peer(address: str | None, forwarded: str | None, trusted: tuple[Network, ...]) -> str | None:
    """The sender's address: the last one in X-Forwarded-For that no trusted proxy of ours has."""
    if not trusted:
        return address or None
    hops = [hop.strip() for hop in (forwarded or "").split(",")]
    while address and hops and _is_in(address, trusted):
        if not _is_address(hops[-1]):
            break
        address = hops.pop()
    return address or None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(address: str, networks: tuple[Network, ...]) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in networks)
