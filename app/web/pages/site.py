"""The base of all pages: access, the content security policy, failures, and helpers for templates.

A page has the parameters of the query API, parsed by the same schemas, so the query string of a list works in both.
Numbers are masked. A user with the scope `reveal` can show them, which the audit log records.
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
_LOGGED_LENGTH = 255  # characters of a form's field that the audit log keeps

log = logging.getLogger(__name__)

_View = TypeVar("_View", bound=Callable[..., Any])


class Blueprint(flask.Blueprint):
    """A blueprint for pages, whose failures are pages too."""

    def __init__(self, name: str, import_name: str, **options: Any) -> None:
        super().__init__(name, import_name, **options)
        self.register_error_handler(PlumError, _failed)
        self.after_request(_with_policy)

    def page(self, rule: str, scope: Scope = Scope.READ, when: Logged = Logged.NEVER) -> Callable[[_View], _View]:
        """Register a page for users with this scope or a wider one; others are redirected to the sign-in page."""

        def decorate(view: _View) -> _View:
            return self.get(rule)(_guarded_view(scope, when, view))

        return decorate

    def form(
        self, rule: str, scope: Scope = Scope.ADMIN, when: Logged = Logged.CHANGE, logged_fields: Sequence[str] = ()
    ) -> Callable[[_View], _View]:
        """Register the view of a form. The view returns `redirect_to(…)`, unless it shows a secret.

        The audit log keeps the values of the fields `logged_fields`.
        """

        def decorate(view: _View) -> _View:
            return self.post(rule)(_guarded_view(scope, when, view, logged_fields))

        return decorate


def _guarded_view(scope: Scope, when: Logged, view: _View, logged_fields: Sequence[str] = ()) -> _View:
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Response:
        token = session.signed_in()
        if token is None:
            return _sign_in_response()
        g.token, g.reveal = token, False
        g.logged_fields = [
            (name, request.form[name][:_LOGGED_LENGTH]) for name in logged_fields if name in request.form
        ]
        if not token.scope.includes(scope):
            raise Forbidden(f"this needs a token with the scope {scope}; yours has {token.scope}")
        if request.method == "POST":
            session.check_form()
        return logged(when, token, lambda: flask.make_response(view(*args, **kwargs)), kwargs)

    return cast(_View, guarded)


def _sign_in_response() -> Response:
    """Redirect to the sign-in page, which leads back. A form is refused, since a redirect would lose its fields."""
    if request.method == "POST":
        return render_page("sign_in.html", 401, next="/", wrong="You were signed out meanwhile, so nothing was done.")
    path = request.full_path.rstrip("?")
    return cast(Response, redirect(url_for("sign_in.show", next=None if path == "/" else path), 303))


def token() -> Token:
    """Return the token of the sign-in."""
    token: Token = g.token
    return token


def may(scope: str) -> bool:
    """True if the user's token includes this scope."""
    return token().scope.includes(Scope(scope))


def zone() -> tzinfo:
    """Return the zone in which times are shown: the parameter `tz`, else UTC. The code that parses the parameters
    reports an unknown zone."""
    try:
        return cast(tzinfo, Zone().deserialize(request.args.get("tz") or "UTC"))
    except ValidationError:
        return UTC


def parameters(*without: str) -> MultiDict[str, str]:
    """Return the URL's parameters, except those in `without` and the empty fields of the period's form."""
    pairs = request.args.items(multi=True)
    return MultiDict([pair for pair in pairs if pair[0] not in without and (pair[1] or pair[0] not in _MAY_BE_EMPTY)])


def render_page(template: str, status: int = 200, **values: Any) -> Response:
    """Render the template as a page."""
    return Response(render_template(template, **values), status, mimetype="text/html")


def redirect_to(endpoint: str, **values: Any) -> Response:
    """Redirect from a form to the page that shows its result."""
    return cast(Response, redirect(url_for(endpoint, **values), 303))


def _with_policy(answer: Response) -> Response:
    answer.headers["Content-Security-Policy"] = _POLICY
    if request.endpoint == "site.static":
        answer.cache_control.max_age = _ASSET_SECONDS
    return answer


def _failed(error: PlumError) -> Response:
    """The page of a failure. A signed-in user keeps the links to the other pages."""
    status, title, headers = row(error)
    if status == 503:
        log.error("unavailable: %s", error.detail)
    answer = render_page("failed.html", status, title=title, message=str(error), errors=getattr(error, "errors", {}))
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
    """Return this page's URL with changed parameters: a value, a list, or None to remove one. Drops the cursor."""
    args = dict(parameters("cursor").lists())
    args |= {name: _texts(value) for name, value in changed.items()}
    pairs = [(name, text) for name, texts in args.items() for text in texts]
    return quote(request.path) + (f"?{urlencode(pairs)}" if pairs else "")


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


@blueprint.app_context_processor
def _template_values() -> dict[str, Any]:
    """Return the values that every template can use."""
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
