"""Who is signed in: a browser holds an analyst's token in a cookie that no script reads.

There is no session of the server's: revoking the token ends every sign-in by it, on all hosts, within the same 5 s.
https://www.rfc-editor.org/rfc/rfc6265 · https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from flask import Response, request

from app.model import Scope, Token
from app.web.errors import Forbidden
from app.web.origin import base_url
from app.web.parts import parts

COOKIE = "plum_token"
CSRF = "csrf"  # the field of each form that changes something
_FROM_HERE = {"same-origin", "none"}  # of Sec-Fetch-Site: a page of ours, or the address bar


def bearer() -> str | None:
    """The token that the request's Authorization header brings."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if kind.lower() == "bearer" else None


def secret() -> str | None:
    """The token of the header, else of the cookie."""
    return bearer() or request.cookies.get(COOKIE) or None


def signed_in() -> Token | None:
    """By the cookie alone, as pages are. Raises `StoreUnavailable` where it cannot be known."""
    token = request.cookies.get(COOKIE)
    return parts().keyring.token(token) if token else None


def asker() -> Token | None:
    """Who asks the query API. A browser that is signed in may only read, and sees numbers masked: a page reveals
    them one by one."""
    if header := bearer():
        return parts().keyring.token(header)
    token = signed_in() if request.method in ("GET", "HEAD") else None
    return token and Token(token.name, Scope.READ)


def sign_in(answer: Response, token: str) -> None:
    """Let the browser bring this token until it is closed; over TLS, where it came so, alone."""
    answer.set_cookie(COOKIE, token, httponly=True, samesite="Lax", secure=_here().startswith("https:"), path="/")


def sign_out(answer: Response) -> None:
    answer.delete_cookie(COOKIE, httponly=True, samesite="Lax", secure=_here().startswith("https:"), path="/")
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'


def csrf() -> str:
    """What a form has to bring with it: only a page of ours can know it."""
    return hmac.new((request.cookies.get(COOKIE) or "").encode(), b"csrf", hashlib.sha256).hexdigest()


def check_form() -> None:
    """Raises `Forbidden` for a form that is no page's of ours, or of another sign-in."""
    check_origin()
    if not hmac.compare_digest(request.form.get(CSRF, "").encode(), csrf().encode()):
        raise Forbidden("this form is of an earlier sign-in; open the page again, then send it again")


def check_origin() -> None:
    """Raises `Forbidden` for a form on another site, which could sign its visitor in as somebody else."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if (site and site not in _FROM_HERE) or (
        not site and origin and urlsplit(origin).netloc != urlsplit(_here()).netloc
    ):
        raise Forbidden("this form was sent from another site")


def _here() -> str:
    settings = parts().settings
    return base_url(request.environ, settings.trusted_proxies, settings.public_url)
