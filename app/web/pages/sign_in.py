"""Signing in with a token, and out."""

from __future__ import annotations

from typing import cast

from flask import Response, redirect, request

from app.web import session
from app.web.pages.site import Blueprint, seen, shown
from app.web.parts import parts

blueprint = Blueprint("sign_in", __name__)


@blueprint.get("/sign-in")
def show() -> Response:
    return shown("sign_in.html", next=_next(request.args.get("next")))


@blueprint.post("/sign-in")
def sign_in() -> Response:
    """Onward to the page that was asked for."""
    session.check_origin()
    token, onward = request.form.get("token", "").strip(), _next(request.form.get("next"))
    if not token or parts().keyring.token(token) is None:
        wrong = "This token opens nothing: it is mistyped or revoked." if token else "Paste a token first."
        return shown("sign_in.html", 403, next=onward, wrong=wrong)
    answer = cast(Response, redirect(onward, 303))
    session.sign_in(answer, token)
    return answer


@blueprint.post("/sign-out")
def sign_out() -> Response:
    session.check_form()
    answer = seen("sign_in.show")
    session.sign_out(answer)
    return answer


def _next(path: str | None) -> str:
    """A path of this very site: a browser takes `//` and `/\\` for another one's."""
    is_ours = path and path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if path and is_ours else "/"
