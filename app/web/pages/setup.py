"""The set-up page: integrations and tokens are made, shown once, rotated, and disabled or revoked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Response, jsonify, request
from marshmallow import ValidationError

from app import metrics
from app.errors import Disabled, Exists, NotFound, PlumError
from app.model import Product, Scope, Verdict, checked_name
from app.public_urls import result_url, start_url
from app.store import integrations, pagination, tokens
from app.store.query.question import Condition, Operator, Order, Question, Records
from app.web import session
from app.web.errors import Forbidden, Invalid, row
from app.web.fields import parse_moment
from app.web.pages.site import Blueprint, redirect_to, render_page, token
from app.web.parts import now, parts

AUTO = "auto"
GRACES = {"7": "for 7 days", "1": "for a day", "30": "for 30 days", "0": "no longer"}  # days: the form's text
WATCHED = timedelta(hours=1)  # maximum time that a page waits for the first result

blueprint = Blueprint("setup", __name__)


@blueprint.page("/setup")
def show() -> Response:
    return _page()


@blueprint.form("/setup/integrations", logged_fields=["name", "product"])
def add_integration() -> Response:
    """Add an integration. The response to the form shows its URLs, so that they appear in no URL and no log."""
    try:
        name, product = _new_name(), _choice("product", [*Product, AUTO])
        declared = None if product == AUTO else Product(product)
        key = integrations.add_integration(parts().beside, name, declared, now())
    except (Exists, Invalid) as error:
        return _page("integration", error, "If you have just made it and not seen its address, make a new address.")
    return _addresses_page(name, declared, key)


@blueprint.form("/setup/integrations/rotate", logged_fields=["name", "grace"])
def rotate_integration() -> Response:
    try:
        grace = timedelta(days=int(_choice("grace", list(GRACES))))
        integration, key = integrations.rotate_integration(parts().beside, _field("name"), grace, now(), _shown_at())
    except (NotFound, Disabled, Exists, Invalid) as error:
        return _page("integrations", error)
    return _addresses_page(integration.name, integration.product, key)


@blueprint.form("/setup/integrations/disable", logged_fields=["name"])
def disable_integration() -> Response:
    try:
        integrations.disable_integration(parts().beside, _field("name"), now())
    except NotFound as error:
        return _page("integrations", error)
    return redirect_to("setup.show")


@blueprint.form("/setup/integrations/enable", logged_fields=["name"])
def enable_integration() -> Response:
    try:
        integrations.enable_integration(parts().beside, _field("name"))
    except NotFound as error:
        return _page("integrations", error)
    return redirect_to("setup.show")


@blueprint.page("/setup/integrations/<name>/seen")
def seen_of(name: str) -> Response:
    """Return whether a probe came since the parameter's time, and the newest result, for the page that waits."""
    since = max(_moment("since", request.args.get("since", "")), now() - WATCHED)
    probed_at = metrics.last_probe(name)
    is_probed = probed_at is not None and probed_at >= since.timestamp()
    with parts().question_limit.slot():
        rows = pagination.page(parts().answers, _newest_result(name, since), ["outcome_id"]).rows
    result = {field: rows[0][field] for field in ("id", "outcome_id")} if rows else None
    return jsonify({"probed": is_probed, "result": result})


@blueprint.form("/setup/tokens", logged_fields=["name", "scope"])
def add_token() -> Response:
    """Add a token. Only the response to the form shows it."""
    try:
        name, scope = _new_name(), Scope(_choice("scope", list(Scope)))
        secret = tokens.add_token(parts().beside, name, scope, now())
    except (Exists, Invalid) as error:
        return _page("token", error, "If you have just made it and not seen it, rotate it.")
    return render_page("made_token.html", name=name, scope=scope, secret=secret)


@blueprint.form("/setup/tokens/rotate", logged_fields=["name"])
def rotate_token() -> Response:
    """Replace a token. Only the response shows the new one; the old one is invalid at once."""
    try:
        name = _field("name")
        scope, secret = tokens.rotate_token(parts().beside, name, now(), _shown_at())
    except (NotFound, Exists, Invalid) as error:
        return _page("tokens", error)
    return render_page("made_token.html", name=name, scope=scope, secret=secret)


@blueprint.form("/setup/tokens/revoke", logged_fields=["name"])
def revoke_token() -> Response:
    """Revoke a token. Revoking the token of this sign-in needs a confirmation, and signs the user out."""
    name = _field("name")
    is_own = name == token().name
    try:
        if is_own and "sure" not in request.form:
            raise Forbidden("this token is your own: say that you mean to be signed out")
        tokens.revoke_token(parts().beside, name, now())
    except (NotFound, Forbidden) as error:
        return _page("tokens", error)
    answer = redirect_to("sign_in.show" if is_own else "setup.show")
    if is_own:
        session.sign_out(answer)
    return answer


def _page(place: str = "", error: PlumError | None = None, if_exists: str = "") -> Response:
    """Show the page with the error at its form; `if_exists` says what to do if the name is taken."""
    return render_page(
        "setup.html",
        row(error)[0] if error else 200,
        integrations=integrations.list_integrations(parts().beside),
        tokens=tokens.list_tokens(parts().beside),
        products=[AUTO, *Product],
        scopes=list(Scope),
        graces=GRACES,
        shown_at=now().isoformat(),
        wrong={place: f"{_text(error)}. {if_exists if isinstance(error, Exists) else ''}"} if error else {},
        given=request.form,
    )


def _text(error: PlumError) -> str:
    """Return the error's text without the store's hint at the command line."""
    if isinstance(error, Invalid):
        return "; ".join(text for texts in error.errors.values() for text in texts)
    return str(error).partition("; ")[0]


def _addresses_page(name: str, product: Product | None, key: str) -> Response:
    settings = parts().settings
    return render_page(
        "made_integration.html",
        name=name,
        product=product or AUTO,
        result_url=result_url(settings, key),
        start_url=start_url(settings, key) if product in (Product.DEV, None) else None,
        is_public=settings.public_url is not None,
        since=now().isoformat(),
    )


def _shown_at() -> datetime:
    """Return when the form's page was shown, so that a form sent twice does not make a second key or token."""
    return _moment("shown_at", _field("shown_at"))


def _field(field: str) -> str:
    return request.form.get(field, "")


def _new_name() -> str:
    try:
        return checked_name(_field("name").strip())
    except ValueError as error:
        raise Invalid({"name": [str(error)]}) from None


def _choice(field: str, words: Sequence[str]) -> str:
    if _field(field) not in words:
        raise Invalid({field: [f"{field} is one of {', '.join(words)}"]})
    return _field(field)


def _moment(name: str, text: str) -> datetime:
    try:
        return parse_moment(text, UTC)
    except ValidationError as error:
        raise Invalid({name: [str(message) for message in error.messages]}) from None


def _newest_result(name: str, since: datetime) -> Question:
    """Return the question for the newest result alone."""
    conditions: list[Any] = [
        Condition("integration", Operator.EQUAL, [name]),
        Condition("received_at", Operator.GTE, [since]),
        Condition("verdict", Operator.NOT, [Verdict.STARTED]),
    ]
    newest = [Order("received_at", descending=True)]
    return Question(records=Records.DELIVERIES, conditions=conditions, order=newest, limit=1)
