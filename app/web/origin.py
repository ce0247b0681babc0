"""Where a request comes from and where it was sent to, as far as proxies in front are to be believed.

Only what a proxy of `PLUM_TRUSTED_PROXIES` says in X-Forwarded-For, -Proto and -Host counts:
https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/X-Forwarded-For
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

from app.model import Network

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.~-]+)(?::[0-9]{1,5})?", re.A)
_WITH_PORT = re.compile(r"\[(?P<six>[^\]]+)\](?::[0-9]+)?|(?P<four>[0-9.]+):[0-9]+")
_PORTS = {"http": "80", "https": "443"}

Environ = Mapping[str, Any]


def peer(environ: Environ, trusted: tuple[Network, ...]) -> str | None:
    """The sender's address: the last one in X-Forwarded-For that no trusted proxy of ours has."""
    address: str | None = environ.get("REMOTE_ADDR")
    found = _address(address)
    if found is None:
        return address or None
    hops = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while hops and _is_of(found, trusted):
        before = _address(hops.pop())
        if before is None:
            break
        found = before
    return str(found)


def base_url(environ: Environ, trusted: tuple[Network, ...], public_url: str | None) -> str:
    """What the client has to put before a path of ours to come here again."""
    scheme, host = environ["wsgi.url_scheme"], environ.get("HTTP_HOST", "")
    address = _address(environ.get("REMOTE_ADDR"))
    if address and _is_of(address, trusted):
        forwarded = _last(environ, "HTTP_X_FORWARDED_PROTO").lower()
        scheme = forwarded if forwarded in _PORTS else scheme
        host = _last(environ, "HTTP_X_FORWARDED_HOST") or host
    if not _HOST.fullmatch(host):
        host = f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    public = urlsplit(public_url or "")
    if _host_and_port(host, public.scheme) == _host_and_port(public.netloc, public.scheme):
        return (public_url or "").rstrip("/")
    return f"{scheme}://{host}{environ.get('SCRIPT_NAME', '')}"


def _last(environ: Environ, variable: str) -> str:
    """Of several values the one that the nearest proxy gave."""
    return str(environ.get(variable, "")).rpartition(",")[2].strip()


def _host_and_port(netloc: str, scheme: str) -> str:
    """Comparable: without case, and without a port that goes without saying."""
    host, colon, port = netloc.rpartition(":")
    is_default = colon and port in (_PORTS.get(scheme), "") and not port.endswith("]")
    return (host if is_default else netloc).casefold()


@lru_cache(maxsize=1024)
def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    """The address, with or without a port; one of IPv4 within IPv6 is IPv4's."""
    text = (text or "").strip()
    if match := _WITH_PORT.fullmatch(text):
        text = match["six"] or match["four"]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def is_in(address: str | None, networks: tuple[Network, ...]) -> bool:
    """Whether it is an address, and of one of these networks."""
    found = _address(address)
    return found is not None and _is_of(found, networks)


def _is_of(address: IPv4Address | IPv6Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
