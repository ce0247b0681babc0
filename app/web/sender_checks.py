"""Who may post under an integration's key, where it says so: networks, and a password by HTTP's Basic scheme.

https://www.rfc-editor.org/rfc/rfc7617
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any

from app.model import Integration, Network, hashed
from app.web.errors import Forbidden, WrongPassword
from app.web.origin import is_in, peer


def check(integration: Integration, environ: Mapping[str, Any], trusted: tuple[Network, ...]) -> None:
    """Raises `Forbidden`, `WrongPassword`."""
    if integration.allowed_from and not is_in(peer(environ, trusted), integration.allowed_from):
        raise Forbidden("this address may not post here; see: plum-outcomes integration access")
    if integration.password_hash and not hmac.compare_digest(_sent(environ), integration.password_hash):
        raise WrongPassword("the password is missing or wrong; see: plum-outcomes integration access")


def _sent(environ: Mapping[str, Any]) -> bytes:
    """The hash of what stands in the header; of nothing where it is no such header."""
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    try:
        told = base64.b64decode(credentials, validate=True).decode() if scheme.lower() == "basic" else ""
    except (binascii.Error, ValueError):
        told = ""
    return hashed(told)
