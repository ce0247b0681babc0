"""The pages that sign in with a token, and sign out."""

from __future__ import annotations

from typing import cast

from flask import Response, redirect, request

from app.web import session
from app.web.pages.site import Blueprint, redirect_to, render_page
from app.web.parts import parts

blueprint = Blueprint("sign_in", __name__)


@blueprint.get("/sign-in")
def show() -> Response:
    return render_page("sign_in.html", next=_safe_path(request.args.get("next")))


@blueprint.post("/sign-in")
def sign_in() -> Response:
    """Check the token, set the cookie, and redirect to the page of the field `next`."""
    session.check_origin()
    token, target = request.form.get("token", "").strip(), _safe_path(request.form.get("next"))
    if not token or parts().keyring.token(token) is None:
        wrong = "This token opens nothing: it is mistyped or revoked." if token else "Paste a token first."
        return render_page("sign_in.html", 403, next=target, wrong=wrong)
    answer = cast(Response, redirect(target, 303))
    session.sign_in(answer, token)
    return answer


@blueprint.post("/sign-out")
def sign_out() -> Response:
    session.check_form()
    answer = redirect_to("sign_in.show")
    session.sign_out(answer)
    return answer


def _safe_path(path: str | None) -> str:
    """Return the path if it stays on this site, else `/`: browsers read `//` and `/\\` as another host."""
    is_ours = path and path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if path and is_ours else "/"
