"""Send HTTP requests to Plum, and distinguish requests that were never sent from those without a response."""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

from app.plum.client.credentials import Credentials
from app.plum.client.failures import InvalidRequest, Unavailable
from app.plum.client.forms import File, Form
from app.plum.client.responses import Reply, UnreadableResponse
from app.plum.client.timeouts import Timeouts

MAX_ANSWER_BYTES = 1048576

# Errors before the first byte of the request is sent; an invalid certificate is a ConnectError too.
NEVER_LEFT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)


class Exchange:
    """Requests to one base URL. Thread-safe; each request has its own connection."""

    def __init__(self, base_url: str, auth: Credentials | None, timeouts: Timeouts) -> None:
        """`auth` is sent as Basic authentication. Raises `InvalidRequest` for an invalid base URL."""
        self._timeouts = timeouts
        self._client = httpx.Client(
            base_url=_base(base_url),
            auth=(auth.user, auth.secret) if auth else None,
            timeout=httpx.Timeout(timeouts.read, connect=timeouts.connect, write=timeouts.write),
            # If Plum closed an idle keep-alive connection, the fate of the next request would be unknown.
            limits=httpx.Limits(max_keepalive_connections=0),
            # The size limit counts raw bytes; a compressed response could inflate to a thousand times as much.
            headers={"Accept-Encoding": "identity", "User-Agent": "plum-outcomes"},
            follow_redirects=False,
        )

    def send(
        self,
        method: str,
        path: str,
        accept: str,
        form: Form | None = None,
        files: Mapping[str, File] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request. Raises `Unavailable` if it certainly was not sent, `UnreadableResponse` if the response is
        incomplete."""
        request = self._client.build_request(
            method, path, data=form, files=files, headers={"Accept": accept, **(headers or {})}
        )
        try:
            return self._answer(request)
        except NEVER_LEFT as error:
            raise Unavailable(f"Plum is not reached ({type(error).__name__}): see base URL and network") from None
        except httpx.HTTPError as error:
            raise UnreadableResponse(f"no whole answer ({type(error).__name__})") from None

    def close(self) -> None:
        self._client.close()

    def _answer(self, request: httpx.Request) -> Reply:
        response = self._client.send(request, stream=True)
        try:
            body = self._body(response, time.monotonic() + self._timeouts.whole)
        finally:
            response.close()
        headers = response.headers
        return Reply(
            status=response.status_code,
            body=body,
            content_type=headers.get("content-type"),
            link=headers.get("link", ""),
            location=headers.get("location", ""),
            retry_after=headers.get("retry-after", ""),
        )

    def _body(self, response: httpx.Response, until: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise UnreadableResponse(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > until:
                raise UnreadableResponse("no whole answer in time")
        return bytes(body)


def _base(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_base = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or IPv6 address
        is_base = False
    if not is_base or parts.query or parts.fragment or "@" in parts.netloc or not url.isascii() or " " in url:
        raise InvalidRequest(
            "base_url", "an address like https://fuse.plumvoice.com, without user, query and fragment"
        )
    return url.rstrip("/")
