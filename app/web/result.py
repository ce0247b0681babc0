"""Plum's face: the probe, and each call's result.

Plum may post a result exactly once and takes only a plain 200 for an answer, so nothing is refused for its content.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import UUID

from flask import Blueprint, Response, request
from werkzeug.routing import BaseConverter

from app import metrics
from app.config import Network
from app.errors import NotFound
from app.model import Delivery, Integration, Receipt
from app.normalise import storable
from app.web.errors import BodyTooLarge
from app.web.parts import now, parts

ACKNOWLEDGEMENT = "completed"
MAX_REFERENCE = 255
CHUNK_BYTES = 65536
# A sender that is still writing does not see a 413 before it is done, so this much is read and thrown away.
DRAIN_BYTES = 16 * 1048576

_LABEL = re.compile(r"/result/[^/]+/(?:call|batch)/(.+?)/?$", re.S)
_SECRET_HEADERS = {"authorization", "proxy-authorization", "cookie", "x-api-key", "x-auth-token"}

blueprint = Blueprint("result", __name__)


class Anything(BaseConverter):
    """The rest of the path, slashes, line ends and all."""

    regex = r"[\s\S]+"
    part_isolating = False


@blueprint.route("/result/<key>", methods=["GET", "POST"], strict_slashes=False)
@blueprint.route("/result/<key>/<any(call, batch):kind>/<anything:tail>", methods=["GET", "POST"])
def receive(key: str, kind: str | None = None, tail: str | None = None) -> Response:
    """Acknowledge a probe at once, and a result when it is durable."""
    started = time.perf_counter()
    integration = parts().keyring.integrations.get(key)
    if integration is None:
        metrics.REFUSED.labels(reason="unknown_key").inc()
        raise NotFound("no integration has this key; see: plum-outcomes integration list")
    label = _label(request.environ) if kind else None
    if request.method != "POST":
        return _probed()
    body, whole = _read_body(request.environ, parts().settings.max_body_bytes)
    if whole and not body:
        return _probed()
    delivery = replace(
        _delivery(integration, key, body, cut_short=not whole),
        reference=label if kind == "call" else None,
        batch=label if kind == "batch" else None,
    )
    receipt = parts().writer.submit(delivery)
    if not whole:
        metrics.REFUSED.labels(reason="cut_short").inc()
        return Response("the body ended before its declared length; post it again", 400, mimetype="text/plain")
    metrics.ACK_SECONDS.observe(time.perf_counter() - started)
    return _acknowledged(receipt)


def _probed() -> Response:
    metrics.PROBES.inc()
    return Response(ACKNOWLEDGEMENT, mimetype="text/plain")


def _acknowledged(receipt: Receipt) -> Response:
    headers = {"X-Delivery-Id": str(receipt.delivery_id), "X-Delivery-Verdict": receipt.verdict}
    return Response(ACKNOWLEDGEMENT, mimetype="text/plain", headers=headers)


def _label(environ: dict[str, Any]) -> str:
    """REFERENCE of `call/REFERENCE`, NAME of `batch/NAME`. Raises `NotFound`.

    Read from the request line where the server keeps it: the framework's path has lost what was escaped (a slash at
    the end), and replaces what is no UTF-8, so that two references would become one.
    """
    sent = _LABEL.search(environ.get("RAW_URI", "").partition("?")[0])
    decoded = environ["PATH_INFO"].encode("latin-1").split(b"/", 4)[4].removesuffix(b"/")
    raw = unquote_to_bytes(sent[1]) if sent else decoded
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if not 1 <= len(text) <= MAX_REFERENCE:
        raise NotFound(f"a reference or batch name must have 1 to {MAX_REFERENCE} characters")
    return storable(text) or ""


def _read_body(environ: dict[str, Any], limit: int) -> tuple[bytes, bool]:
    """The body's bytes, and whether they are all. Raises `BodyTooLarge`.

    Counted while reading: a chunked body has no Content-Length.
    """
    declared = int(environ["CONTENT_LENGTH"]) if environ.get("CONTENT_LENGTH", "").isdecimal() else None
    if declared is None and not environ.get("wsgi.input_terminated"):
        return b"", True
    if declared is not None and declared > limit + DRAIN_BYTES:
        raise BodyTooLarge(limit)
    chunks: list[bytes] = []
    size = 0
    for chunk in _chunks(environ["wsgi.input"], limit + DRAIN_BYTES):
        if chunk is None:
            return b"".join(chunks), False
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
    if size > limit:
        raise BodyTooLarge(limit)
    return b"".join(chunks), declared is None or size == declared


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


def _delivery(integration: Integration, key: str, body: bytes, *, cut_short: bool) -> Delivery:
    received_at = now()
    forwarded = request.headers.getlist("X-Forwarded-For")
    return Delivery(
        id=delivery_id(received_at),
        integration=integration.name,
        product=integration.product,
        received_at=received_at,
        content_type=storable(request.headers.get("Content-Type")),
        headers=tuple(_kept_header(name, value, key) for name, value in request.headers.items()),
        query=storable(request.environ.get("QUERY_STRING")) or "",
        remote_addr=peer(request.remote_addr, forwarded, parts().settings.trusted_proxies),
        body=body,
        cut_short=cut_short,
    )


def delivery_id(moment: datetime) -> UUID:
    """A UUID that sorts by time (version 7, RFC 9562), so that new rows lie beside one another."""
    milliseconds = int(moment.timestamp() * 1000)
    random = int.from_bytes(os.urandom(10))
    value = milliseconds << 80 | random & ((1 << 80) - 1)
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def _kept_header(name: str, value: str, key: str) -> tuple[str, str]:
    if name.lower() in _SECRET_HEADERS:
        return name, "(secret, not kept)"
    return name, re.sub(re.escape(key), "(key)", value)


def peer(address: str | None, forwarded: list[str], trusted: tuple[Network, ...]) -> str | None:
    """The sender's address: the last one in X-Forwarded-For that no trusted proxy of ours has."""
    hops = [hop.strip() for header in forwarded for hop in header.split(",")]
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
