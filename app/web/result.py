"""The endpoints that Plum calls: the probe, each call's result, and each call's start.

Plum may post a result exactly once and accepts only a plain 200, so no post is refused for its content.
This is plain WSGI in front of Flask: for a callback, Flask's hooks would cost more than the commit.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes, urlsplit

from app import metrics, voicexml
from app.errors import NotFound, Overloaded, PlumError, StoreUnavailable
from app.intake import refused as refused_posts
from app.intake.breaker import within
from app.interpret import start_fields
from app.model import Delivery, Integration, hashed
from app.web import sender_checks
from app.web.auth import PATIENCE_SECONDS
from app.web.bodies import Body, Held
from app.web.deliveries import Address, delivery_from, kept_headers
from app.web.errors import GUARDING, RETRY_AFTER, BodyTooLarge, Forbidden, WrongPassword, status_of
from app.web.origin import peer
from app.web.parts import Parts

PREFIXES = ("/result/", "/start/")
ACKNOWLEDGEMENT = b"completed"
PLAIN = "text/plain; charset=utf-8"
MAX_REFERENCE = 255
START_SECONDS = 1.0  # timeout of the store, while the person who was called waits for the script
SPOOL_START_SECONDS = 2.0  # timeout of the spool after that

_URL = re.compile(
    r"/start/(?P<caller>[^/]+)/?|/result/(?P<key>[^/]+)(?:/(?P<kind>call|batch)/(?P<label>.+?))?/?", re.S
)
_METHODS = "GET, HEAD, POST"
_REFUSALS = {
    NotFound: "unknown_key",
    Forbidden: "wrong_address",
    WrongPassword: "wrong_password",
    BodyTooLarge: "too_large",
    Overloaded: "overload",
}
# Refusals whose posts are kept, since they may be real results. Strangers send them, so few are read at a time.
_KEPT_CAUSES = {"unknown_key", "wrong_address", "wrong_password"}
_MAX_REFUSED_READS = 20
_NO_INTEGRATION = Integration("", None)

log = logging.getLogger(__name__)

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Headers = Sequence[tuple[str, str]]


class Answer(NamedTuple):
    status: str
    text: bytes
    headers: Headers = ()
    content_type: str = PLAIN


class PlumFace:
    """A WSGI application that answers below `/result/` and `/start/`, and passes other requests to `rest`."""

    def __init__(self, rest: Wsgi, parts: Parts) -> None:
        self._rest = rest
        self._parts = parts
        self._held = Held()
        self._refused_reads = 0

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        match = _URL.fullmatch(_path(environ)) if environ["PATH_INFO"].startswith(PREFIXES) else None
        if match is None:
            return self._rest(environ, start_response)
        status, text, headers, content_type = self._answer(environ, match)
        content_headers = [("Content-Type", content_type), ("Content-Length", str(len(text)))]
        start_response(status, [*content_headers, *GUARDING, *headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [text]

    def _answer(self, environ: Environ, match: re.Match[str]) -> Answer:
        address = None
        try:
            address = _address(match)
            return self._receive(environ, address)
        except PlumError as error:
            status, headers = status_of(error)
            if status.startswith("503"):
                log.error("posts are refused: %s", error.detail)
            cause = _REFUSALS.get(type(error), "store_unavailable")
            metrics.REFUSED.labels(reason=cause).inc()
            if address and cause in _KEPT_CAUSES:
                self._keep_refused(environ, address, cause)
            return Answer(status, f"{error}\n".encode(), headers)
        except Exception as error:
            log.exception("unexpected failure of a post", exc_info=error)
            metrics.REFUSED.labels(reason="unexpected").inc()
            return Answer("503 Service Unavailable", b"an unexpected failure\n", [RETRY_AFTER])

    def _receive(self, environ: Environ, address: Address) -> Answer:
        """Acknowledge a probe at once; acknowledge a result or a call's start when it is durable."""
        started = time.perf_counter()
        method, is_live = environ["REQUEST_METHOD"], _is_live(environ, address)
        integration = self._sender(environ, address, START_SECONDS if is_live else PATIENCE_SECONDS)
        patience = max(0.0, started + START_SECONDS - time.perf_counter()) if is_live else None
        if method not in ("GET", "HEAD", "POST"):
            return Answer("405 Method Not Allowed", b"GET, HEAD or POST\n", [("Allow", _METHODS)])
        if method != "POST" and not is_live:
            return _probe_answer(integration, address)
        with Body(environ, self._parts.settings.max_body_bytes, self._held) as post:
            body, is_complete = post.read()
            if is_complete and not body and method == "POST":
                return _probe_answer(integration, address)
            delivery = self._delivery(environ, integration, address, post, body, is_complete)
            headers = self._store(delivery, patience)
        if not is_complete:
            metrics.REFUSED.labels(reason="cut_short").inc()
            return Answer("400 Bad Request", b"the body ended before its declared length; post it again\n")
        metrics.ACK_SECONDS.observe(time.perf_counter() - started)
        return (
            self._start_answer(integration, delivery, headers)
            if is_live
            else Answer("200 OK", ACKNOWLEDGEMENT, headers)
        )

    def _sender(self, environ: Environ, address: Address, patience: float) -> Integration:
        """Return the key's integration after the checks that it demands of the sender.

        Raises `NotFound`, `Forbidden`, `WrongPassword`, and `StoreUnavailable` if the keys cannot be read.
        """
        integration = self._parts.keyring.integration(address.key, patience)
        if integration is None:
            raise NotFound("no integration has this key; see: plum-outcomes integration list")
        sender_checks.check(integration, environ, self._parts.settings.trusted_proxies)
        return integration

    def _keep_refused(self, environ: Environ, address: Address, cause: str) -> None:
        """Keep the post: a result with a wrong key or from a wrong address may never be sent again."""
        refused, trusted = self._parts.refused, self._parts.settings.trusted_proxies
        length = environ.get("CONTENT_LENGTH", "")
        is_small = length.isdecimal() and 0 < int(length) <= refused_posts.MAX_BODY_BYTES
        if environ["REQUEST_METHOD"] != "POST" or not is_small or not refused.has_room(peer(environ, trusted)):
            return
        if self._refused_reads >= _MAX_REFUSED_READS:
            return
        self._refused_reads += 1
        try:
            with Body(environ, refused_posts.MAX_BODY_BYTES, self._held) as post:
                body, is_complete = post.read()
                if is_complete:
                    delivery = self._delivery(environ, _NO_INTEGRATION, address, post, body, is_complete)
                    refused.keep(delivery, cause, hashed(address.key))
        except Overloaded:
            log.warning("a refused post is not kept: too many bodies at once")
        finally:
            self._refused_reads -= 1

    def _store(self, delivery: Delivery, patience: float | None) -> Headers:
        """Store the delivery and return the headers about it; none if it is a start that cannot be stored."""
        try:
            submit = partial(self._parts.writer.submit, delivery, patience)
            receipt = submit() if patience is None else within(patience + SPOOL_START_SECONDS, submit)
        except StoreUnavailable as error:
            if not delivery.started:
                raise
            log.error("a call's start is answered but not stored: %s", error.detail, extra={"delivery": delivery.id})
            metrics.STARTS_LOST.inc()
            return ()
        return [("X-Delivery-Id", str(receipt.delivery_id)), ("X-Delivery-Verdict", receipt.verdict.value)]

    def _start_answer(self, integration: Integration, delivery: Delivery, headers: Headers) -> Answer:
        if integration.script is None:
            return _script_answer(voicexml.DEFAULT, {}, headers)
        return _script_answer(
            integration.script, start_fields(delivery, self._parts.settings.max_body_bytes), headers
        )

    def _delivery(
        self, environ: Environ, integration: Integration, address: Address, post: Body, body: bytes, is_complete: bool
    ) -> Delivery:
        headers = kept_headers(environ, address)
        post.hold(sum(len(name) + len(value) for name, value in headers))
        trusted = self._parts.settings.trusted_proxies
        return delivery_from(environ, integration, address, headers, body, is_complete, trusted)


def _is_live(environ: Environ, address: Address) -> bool:
    """True if a caller may be on the line. Plum's pages on DEV contradict themselves on GET or POST for it."""
    method = environ["REQUEST_METHOD"]
    return address.is_start and (method == "POST" or (method == "GET" and bool(environ.get("QUERY_STRING"))))


def _probe_answer(integration: Integration, address: Address) -> Answer:
    metrics.PROBES.inc()
    metrics.LAST_PROBE.labels(integration.name).set_to_current_time()
    if address.is_start and integration.script:
        return _script_answer(integration.script, {})
    return Answer("200 OK", ACKNOWLEDGEMENT)


def _script_answer(script: str, fields: Mapping[str, str], headers: Headers = ()) -> Answer:
    return Answer("200 OK", voicexml.render(script, fields).encode(), headers, voicexml.MEDIA_TYPE)


def _path(environ: Environ) -> str:
    """Return the path, still escaped: once decoded, it no longer tells which slashes belong to a reference."""
    raw = str(environ.get("RAW_URI", "")).partition("?")[0]
    if not raw.startswith("/"):  # the absolute form, which clients send to proxies
        raw = urlsplit(raw).path
    raw = raw.removeprefix(environ.get("SCRIPT_NAME", ""))
    return raw if raw.startswith(PREFIXES) else quote(environ["PATH_INFO"].encode("latin-1"))


def _address(match: re.Match[str]) -> Address:
    """Parse the URL. Raises `NotFound` if a reference or batch name is too long."""
    if match["caller"]:
        return Address(_decoded(match["caller"]), match["caller"], is_start=True)
    keys, kind = (_decoded(match["key"]), match["key"]), match["kind"]
    if kind is None:
        return Address(*keys)
    label = _decoded(match["label"])
    if len(label) > MAX_REFERENCE:
        raise NotFound(f"a reference or batch name must have 1 to {MAX_REFERENCE} characters")
    return Address(*keys, reference=label) if kind == "call" else Address(*keys, batch=label)


def _decoded(escaped: str) -> str:
    raw = unquote_to_bytes(escaped)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
