"""Checks of the sender that an integration may demand: its network, and a password by HTTP Basic authentication.

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
    """Raises `Forbidden` for a wrong network, `WrongPassword` for a wrong password."""
    if integration.allowed_from and not is_in(peer(environ, trusted), integration.allowed_from):
        raise Forbidden("this address may not post here; see: plum-outcomes integration access")
    if integration.password_hash and not hmac.compare_digest(_sent_password_hash(environ), integration.password_hash):
        raise WrongPassword("the password is missing or wrong; see: plum-outcomes integration access")


def _sent_password_hash(environ: Mapping[str, Any]) -> bytes:
    """Return the hash of the header's credentials; of the empty text if the header is not Basic."""
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    try:
        decoded = base64.b64decode(credentials, validate=True).decode() if scheme.lower() == "basic" else ""
    except (binascii.Error, ValueError):
        decoded = ""
    return hashed(decoded)
