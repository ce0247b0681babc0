"""Whom a request comes from, and the address that leads back to us."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from app.web.origin import base_url, peer

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))


def environ(address: str = "10.0.0.1", **others: str) -> dict[str, Any]:
    base = {"REMOTE_ADDR": address, "wsgi.url_scheme": "http", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000"}
    return base | others


@pytest.mark.parametrize(
    "address, forwarded, sender",
    [
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7:51234", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.1", "[2001:db8::7]:443", "2001:db8::7"),
        ("10.0.0.1", "[2001:db8::7]", "2001:db8::7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("2001:db8:1::1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
        ("192.0.2.1", "203.0.113.7", "192.0.2.1"),
        ("::ffff:192.0.2.1", "203.0.113.7", "192.0.2.1"),
    ],
)
def test_the_sender_is_the_last_address_that_is_not_a_trusted_proxy(
    address: str, forwarded: str, sender: str
) -> None:
    assert peer(environ(address, HTTP_X_FORWARDED_FOR=forwarded), PROXIES) == sender


def test_without_trusted_proxies_no_header_is_believed() -> None:
    assert peer(environ(HTTP_X_FORWARDED_FOR="203.0.113.7"), ()) == "10.0.0.1"
    assert peer(environ("", HTTP_X_FORWARDED_FOR="203.0.113.7"), PROXIES) is None


@pytest.mark.parametrize(
    "host, public_url, base",
    [
        ("plum_outcomes:8000", None, "http://plum_outcomes:8000"),
        ("Voice.Example.com", "https://voice.example.com", "https://voice.example.com"),
        ("voice.example.com:443", "https://Voice.Example.com/", "https://Voice.Example.com"),
        ("voice.example.com", "https://voice.example.com:443/plum/", "https://voice.example.com:443/plum"),
        ("voice.example.com:8443", "https://voice.example.com", "http://voice.example.com:8443"),
        ("voice.example.com:80", "http://voice.example.com", "http://voice.example.com"),
        ("other.example.com", "https://voice.example.com", "http://other.example.com"),
        ("[2001:db8::7]:8000", None, "http://[2001:db8::7]:8000"),
        ("[2001:db8::7]", "https://[2001:DB8::7]:443", "https://[2001:DB8::7]:443"),
        ('a"><script>', None, "http://127.0.0.1:8000"),
        ("", None, "http://127.0.0.1:8000"),
        ("", "https://voice.example.com", "http://127.0.0.1:8000"),
    ],
)
def test_links_use_the_clients_address(host: str, public_url: str | None, base: str) -> None:
    assert base_url(environ("192.0.2.1", HTTP_HOST=host), PROXIES, public_url) == base


def test_a_trusted_proxy_decides_the_clients_scheme_and_host() -> None:
    forwarded = {"HTTP_HOST": "inner:8000", "HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_HOST": "a.example"}
    assert base_url(environ("10.9.9.9", **forwarded), PROXIES, None) == "https://a.example"
    assert base_url(environ("192.0.2.1", **forwarded), PROXIES, None) == "http://inner:8000"
    assert base_url(environ("10.9.9.9", **forwarded), PROXIES, "https://A.example/x") == "https://A.example/x"
    several = forwarded | {
        "HTTP_X_FORWARDED_PROTO": "http, https",
        "HTTP_X_FORWARDED_HOST": "evil.example, b.example",
    }
    assert base_url(environ("10.9.9.9", **several), PROXIES, None) == "https://b.example"
    assert base_url(environ("10.9.9.9", HTTP_HOST="a", HTTP_X_FORWARDED_PROTO="ftp"), PROXIES, None) == "http://a"
