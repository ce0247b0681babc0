"""The client's address and the URL that it requested, behind trusted proxies.

X-Forwarded-For, -Proto and -Host count only if a proxy of `PLUM_TRUSTED_PROXIES` sent them:
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
    """Return the client's address: the last one in X-Forwarded-For that is not a trusted proxy's."""
    remote: str | None = environ.get("REMOTE_ADDR")
    address = _address(remote)
    if address is None:
        return remote or None
    hops = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while hops and _is_in_any(address, trusted):
        previous = _address(hops.pop())
        if previous is None:
            break
        address = previous
    return str(address)


def base_url(environ: Environ, trusted: tuple[Network, ...], public_url: str | None) -> str:
    """Return the URL prefix with which the client reaches this server, without a trailing slash."""
    scheme, host = environ["wsgi.url_scheme"], environ.get("HTTP_HOST", "")
    address = _address(environ.get("REMOTE_ADDR"))
    if address and _is_in_any(address, trusted):
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
    """Return the header's last value, which the nearest proxy set."""
    return str(environ.get(variable, "")).rpartition(",")[2].strip()


def _host_and_port(netloc: str, scheme: str) -> str:
    """Return host and port for comparison: case-folded, without the scheme's default port."""
    host, colon, port = netloc.rpartition(":")
    is_default = colon and port in (_PORTS.get(scheme), "") and not port.endswith("]")
    return (host if is_default else netloc).casefold()


@lru_cache(maxsize=1024)
def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    """Parse an address with or without a port; an IPv4-mapped IPv6 address becomes IPv4."""
    text = (text or "").strip()
    if match := _WITH_PORT.fullmatch(text):
        text = match["six"] or match["four"]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_in(address: str | None, networks: tuple[Network, ...]) -> bool:
    """True if it is an address in one of these networks."""
    parsed = _address(address)
    return parsed is not None and _is_in_any(parsed, networks)


def _is_in_any(address: IPv4Address | IPv6Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
