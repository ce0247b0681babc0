"""Turns a post into a delivery: our verbatim record of it, without secrets."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from app.identity import new_id
from app.model import Delivery, Integration, Network
from app.values import storable
from app.web.origin import peer
from app.web.parts import now

_SECRET_HEADER = re.compile(r"auth|cookie|token|secret|password|api-?key|signature", re.I)


class Address(NamedTuple):
    """The parts of a result_url or start_url: the key, and the reference of `call/REFERENCE` or the batch of
    `batch/NAME`."""

    key: str
    key_as_sent: str  # escaped, as it stands in the URL
    reference: str | None = None
    batch: str | None = None
    is_start: bool = False


def delivery_from(
    environ: dict[str, Any],
    integration: Integration,
    address: Address,
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    whole: bool,
    trusted: tuple[Network, ...],
) -> Delivery:
    received_at = now()
    return Delivery(
        id=new_id(received_at),
        integration=integration.name,
        product=integration.product,
        received_at=received_at,
        content_type=storable(environ.get("CONTENT_TYPE")),
        headers=headers,
        query=storable(environ.get("QUERY_STRING")) or "",
        remote_addr=peer(environ, trusted),
        reference=address.reference,
        batch=address.batch,
        body=body,
        cut_short=not whole,
        started=address.is_start,
    )


def kept_headers(environ: dict[str, Any], address: Address) -> tuple[tuple[str, str], ...]:
    """Return the request's headers, without credentials, and without the URL's key in any value."""
    return tuple(
        (name, "(secret, not kept)" if _is_secret(name) else _without_key(value, address))
        for variable, value in environ.items()
        if (name := _header_name(variable))
    )


def _without_key(value: str, address: Address) -> str:
    for key in {address.key, address.key_as_sent}:
        value = value.replace(key, "(key)")
    return value


@lru_cache(maxsize=1024)
def _header_name(variable: str) -> str | None:
    """Return the header's name of a CGI variable, or None if the variable is no header."""
    if not variable.startswith("HTTP_") and variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        return None
    return variable.removeprefix("HTTP_").replace("_", "-").title()


@lru_cache(maxsize=1024)
def _is_secret(header: str) -> bool:
    return _SECRET_HEADER.search(header) is not None
