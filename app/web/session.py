"""Sign-in of browsers: a browser holds an analyst's token in a cookie that scripts cannot read.

The server keeps no session: revoking the token ends all its sign-ins, on all hosts, within 5 s.
https://www.rfc-editor.org/rfc/rfc6265 · https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from urllib.parse import urlsplit

from flask import Response, request

from app.model import Scope, Token
from app.web.errors import Forbidden
from app.web.origin import base_url
from app.web.parts import parts

COOKIE = "plum_token"
CSRF = "csrf"  # the name of the hidden field in each form that changes something
_SAME_SITE = {"same-origin", "none"}  # values of Sec-Fetch-Site: from our own page, or from the address bar


def bearer() -> str | None:
    """Return the token in the request's Authorization header."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if kind.lower() == "bearer" else None


def secret() -> str | None:
    """Return the token in the header, else in the cookie."""
    return bearer() or request.cookies.get(COOKIE) or None


def signed_in() -> Token | None:
    """Return the token in the cookie, as pages use it. Raises `StoreUnavailable` if it cannot be checked."""
    token = request.cookies.get(COOKIE)
    return parts().keyring.token(token) if token else None


def validity() -> Callable[[], bool]:
    """Return a check for a response that lasts: true while this request's token is valid. The check raises
    `StoreUnavailable` if that cannot be known."""
    keyring, token = parts().keyring, secret() or ""
    return lambda: keyring.token(token) is not None


def asker() -> Token | None:
    """Return the token of a request to the query API. With the cookie it may only read, with numbers masked: pages
    reveal calls one by one."""
    if header := bearer():
        return parts().keyring.token(header)
    token = signed_in() if request.method in ("GET", "HEAD") else None
    return token and Token(token.name, Scope.READ)


def sign_in(answer: Response, token: str) -> None:
    """Set the cookie until the browser closes; for HTTPS only, if the request came over HTTPS."""
    answer.set_cookie(COOKIE, token, httponly=True, samesite="Lax", secure=_base_url().startswith("https:"), path="/")


def sign_out(answer: Response) -> None:
    answer.delete_cookie(COOKIE, httponly=True, samesite="Lax", secure=_base_url().startswith("https:"), path="/")
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'


def csrf() -> str:
    """Return the CSRF token of this sign-in's forms, which other sites cannot know."""
    return hmac.new((request.cookies.get(COOKIE) or "").encode(), b"csrf", hashlib.sha256).hexdigest()


def check_form() -> None:
    """Raises `Forbidden` if the form is not from our own pages, or from another sign-in."""
    check_origin()
    if not hmac.compare_digest(request.form.get(CSRF, "").encode(), csrf().encode()):
        raise Forbidden("this form is of an earlier sign-in; open the page again, then send it again")


def check_origin() -> None:
    """Raises `Forbidden` for a form on another site, which could sign a visitor in under another token."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if (site and site not in _SAME_SITE) or (
        not site and origin and urlsplit(origin).netloc != urlsplit(_base_url()).netloc
    ):
        raise Forbidden("this form was sent from another site")


def _base_url() -> str:
    settings = parts().settings
    return base_url(request.environ, settings.trusted_proxies, settings.public_url)
