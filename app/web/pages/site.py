"""What all pages have in common: who may see them, what a browser may load, how a failure is told.

A page asks as the query API does: its parameters are the API's, read by the same schemas, so each address of a list
here is one there too. Numbers are masked; who may see them reveals them, and the audit log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, tzinfo
from functools import wraps
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

import flask
from flask import Response, g, redirect, render_template, request, url_for
from marshmallow import ValidationError
from werkzeug.datastructures import MultiDict

from app.errors import PlumError
from app.model import Scope, Token
from app.web import session
from app.web.auditing import Logged, logged
from app.web.errors import Forbidden, row
from app.web.fields import Zone
from app.web.pages import formatting

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_ASSET_SECONDS = 3600
_MAY_BE_EMPTY = ("since", "until", "tz")
_TOLD = 255  # characters of a form's field that the audit log keeps

log = logging.getLogger(__name__)

_View = TypeVar("_View", bound=Callable[..., Any])


class Blueprint(flask.Blueprint):
    """Pages. A failure is one, too."""

    def __init__(self, name: str, import_name: str, **options: Any) -> None:
        super().__init__(name, import_name, **options)
        self.register_error_handler(PlumError, _failed)
        self.after_request(_guarded)

    def page(self, rule: str, scope: Scope = Scope.READ, when: Logged = Logged.NEVER) -> Callable[[_View], _View]:
        """The page at this path, for who is signed in with this scope or a wider one; others are asked to sign in."""

        def decorate(view: _View) -> _View:
            return self.get(rule)(_seen_by(scope, when, view))

        return decorate

    def form(
        self, rule: str, scope: Scope = Scope.ADMIN, when: Logged = Logged.CHANGE, tells: Sequence[str] = ()
    ) -> Callable[[_View], _View]:
        """What a form does that is sent to this path. It answers with `seen`, unless it reveals something.

        The audit log keeps what the fields `tells` hold.
        """

        def decorate(view: _View) -> _View:
            return self.post(rule)(_seen_by(scope, when, view, tells))

        return decorate


def _seen_by(scope: Scope, when: Logged, view: _View, tells: Sequence[str] = ()) -> _View:
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Response:
        token = session.signed_in()
        if token is None:
            return _to_sign_in()
        g.token, g.reveal = token, False
        g.told = [(name, request.form[name][:_TOLD]) for name in tells if name in request.form]
        if not token.scope.includes(scope):
            raise Forbidden(f"this needs a token with the scope {scope}; yours has {token.scope}")
        if request.method == "POST":
            session.check_form()
        return logged(when, token, lambda: flask.make_response(view(*args, **kwargs)), kwargs)

    return cast(_View, guarded)


def _to_sign_in() -> Response:
    """And from there to the page that was asked for. A form is refused, since it cannot be asked for again."""
    if request.method == "POST":
        return shown("sign_in.html", 401, next="/", wrong="You were signed out meanwhile, so nothing was done.")
    asked = request.full_path.rstrip("?")
    return cast(Response, redirect(url_for("sign_in.show", next=None if asked == "/" else asked), 303))


def token() -> Token:
    """Of who is signed in."""
    found: Token = g.token
    return found


def may(scope: str) -> bool:
    """Whether who is signed in may do what needs this scope."""
    return token().scope.includes(Scope(scope))


def zone() -> tzinfo:
    """In which times are shown: the parameter `tz`, else UTC. One that there is not is told by who reads the
    parameters."""
    try:
        return cast(tzinfo, Zone().deserialize(request.args.get("tz") or "UTC"))
    except ValidationError:
        return UTC


def parameters(*without: str) -> MultiDict[str, str]:
    """This address's, but for these, and for what the form of a period left empty."""
    given = request.args.items(multi=True)
    return MultiDict([pair for pair in given if pair[0] not in without and (pair[1] or pair[0] not in _MAY_BE_EMPTY)])


def shown(template: str, status: int = 200, **values: Any) -> Response:
    """The page that the template makes of these."""
    return Response(render_template(template, **values), status, mimetype="text/html")


def seen(endpoint: str, **values: Any) -> Response:
    """Where a form has led: the page that shows what is now so."""
    return cast(Response, redirect(url_for(endpoint, **values), 303))


def _guarded(answer: Response) -> Response:
    answer.headers["Content-Security-Policy"] = _POLICY
    if request.endpoint == "site.static":
        answer.cache_control.max_age = _ASSET_SECONDS
    return answer


def _failed(error: PlumError) -> Response:
    """In words; who is signed in keeps the way to the other pages."""
    status, title, headers = row(error)
    if status == 503:
        log.error("unavailable: %s", error.detail)
    answer = shown("failed.html", status, title=title, told=str(error), errors=getattr(error, "errors", {}))
    answer.headers.extend(dict(headers))
    return answer


blueprint = Blueprint(
    "site", __name__, template_folder="templates", static_folder="static", static_url_path="/static"
)


@blueprint.app_template_global()
def asset(name: str) -> str:
    return url_for("site.static", filename=name)


@blueprint.app_template_global()
def here(**changed: Any) -> str:
    """This page with other parameters: a value, several, or None for without. Other pages of a list are left."""
    args = dict(parameters("cursor").lists())
    args |= {name: _texts(value) for name, value in changed.items()}
    pairs = [(name, text) for name, texts in args.items() for text in texts]
    return quote(request.path) + (f"?{urlencode(pairs)}" if pairs else "")


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


@blueprint.app_context_processor
def _common() -> dict[str, Any]:
    """What every template may ask for."""
    token = g.get("token")
    return {
        "csrf": session.csrf,
        "signed_in": token,
        "may": (lambda scope: bool(token) and may(scope)),
        "zone": zone(),
        "words": formatting,
    }


blueprint.add_app_template_filter(lambda value: formatting.moment(value, zone()), "moment")
blueprint.add_app_template_filter(formatting.duration, "duration")
blueprint.add_app_template_filter(formatting.number, "number")
blueprint.add_app_template_filter(formatting.percent, "percent")
blueprint.add_app_template_filter(formatting.name, "words")
blueprint.add_app_template_filter(formatting.as_json, "as_json")
