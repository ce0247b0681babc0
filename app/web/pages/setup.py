"""Integrations and tokens: made, shown once, and taken away."""

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
from app.web.pages.site import Blueprint, seen, shown, token
from app.web.parts import now, parts

AUTO = "auto"
GRACES = {"7": "for 7 days", "1": "for a day", "30": "for 30 days", "0": "no longer"}  # days, as the form says them
WATCHED = timedelta(hours=1)  # for which a page may wait for the first result

blueprint = Blueprint("setup", __name__)


@blueprint.page("/setup")
def show() -> Response:
    return _shown()


@blueprint.form("/setup/integrations", tells=["name", "product"])
def add_integration() -> Response:
    """Its addresses are in the answer to the form, so that neither a URL nor a log has them."""
    try:
        name, product = _new_name(), _one_of("product", [*Product, AUTO])
        declared = None if product == AUTO else Product(product)
        key = integrations.add_integration(parts().beside, name, declared, now())
    except (Exists, Invalid) as error:
        return _shown("integration", error, "If you have just made it and not seen its address, make a new address.")
    return _addresses(name, declared, key)


@blueprint.form("/setup/integrations/rotate", tells=["name", "grace"])
def rotate_integration() -> Response:
    try:
        grace = timedelta(days=int(_one_of("grace", list(GRACES))))
        made, key = integrations.rotate_integration(parts().beside, _given("name"), grace, now(), _shown_at())
    except (NotFound, Disabled, Exists, Invalid) as error:
        return _shown("integrations", error)
    return _addresses(made.name, made.product, key)


@blueprint.form("/setup/integrations/disable", tells=["name"])
def disable_integration() -> Response:
    try:
        integrations.disable_integration(parts().beside, _given("name"), now())
    except NotFound as error:
        return _shown("integrations", error)
    return seen("setup.show")


@blueprint.form("/setup/integrations/enable", tells=["name"])
def enable_integration() -> Response:
    try:
        integrations.enable_integration(parts().beside, _given("name"))
    except NotFound as error:
        return _shown("integrations", error)
    return seen("setup.show")


@blueprint.page("/setup/integrations/<name>/seen")
def seen_of(name: str) -> Response:
    """The last probe and the newest result since the moment given, for the page that waits for them."""
    since = max(_moment("since", request.args.get("since", "")), now() - WATCHED)
    probed_at = metrics.last_probe(name)
    is_probed = probed_at is not None and probed_at >= since.timestamp()
    with parts().question_limit.slot():
        found = pagination.page(parts().answers, _results(name, since), ["outcome_id"]).rows
    result = {field: found[0][field] for field in ("id", "outcome_id")} if found else None
    return jsonify({"probed": is_probed, "result": result})


@blueprint.form("/setup/tokens", tells=["name", "scope"])
def add_token() -> Response:
    """It is in the answer to the form, this once."""
    try:
        name, scope = _new_name(), Scope(_one_of("scope", list(Scope)))
        secret = tokens.add_token(parts().beside, name, scope, now())
    except (Exists, Invalid) as error:
        return _shown("token", error, "If you have just made it and not seen it, rotate it.")
    return shown("made_token.html", name=name, scope=scope, secret=secret)


@blueprint.form("/setup/tokens/rotate", tells=["name"])
def rotate_token() -> Response:
    """Another in its place, shown this once; the old one ends at once."""
    try:
        name = _given("name")
        scope, secret = tokens.rotate_token(parts().beside, name, now(), _shown_at())
    except (NotFound, Exists, Invalid) as error:
        return _shown("tokens", error)
    return shown("made_token.html", name=name, scope=scope, secret=secret)


@blueprint.form("/setup/tokens/revoke", tells=["name"])
def revoke_token() -> Response:
    """Who revokes the token of this very sign-in says so, and is signed out."""
    name = _given("name")
    is_own = name == token().name
    try:
        if is_own and "sure" not in request.form:
            raise Forbidden("this token is your own: say that you mean to be signed out")
        tokens.revoke_token(parts().beside, name, now())
    except (NotFound, Forbidden) as error:
        return _shown("tokens", error)
    answer = seen("sign_in.show" if is_own else "setup.show")
    if is_own:
        session.sign_out(answer)
    return answer


def _shown(place: str = "", error: PlumError | None = None, if_there: str = "") -> Response:
    """The page, with what is wrong told at its place, and what to do where one of that name is there."""
    return shown(
        "setup.html",
        row(error)[0] if error else 200,
        integrations=integrations.list_integrations(parts().beside),
        tokens=tokens.list_tokens(parts().beside),
        products=[AUTO, *Product],
        scopes=list(Scope),
        graces=GRACES,
        shown_at=now().isoformat(),
        wrong={place: f"{_text(error)}. {if_there if isinstance(error, Exists) else ''}"} if error else {},
        given=request.form,
    )


def _text(error: PlumError) -> str:
    """Without what the store says of the command line."""
    if isinstance(error, Invalid):
        return "; ".join(text for texts in error.errors.values() for text in texts)
    return str(error).partition("; ")[0]


def _addresses(name: str, product: Product | None, key: str) -> Response:
    settings = parts().settings
    return shown(
        "made_integration.html",
        name=name,
        product=product or AUTO,
        result_url=result_url(settings, key),
        start_url=start_url(settings, key) if product in (Product.DEV, None) else None,
        is_public=settings.public_url is not None,
        since=now().isoformat(),
    )


def _shown_at() -> datetime:
    """When the page was shown that the form is of. One that is sent again would make another address."""
    return _moment("shown_at", _given("shown_at"))


def _given(field: str) -> str:
    return request.form.get(field, "")


def _new_name() -> str:
    try:
        return checked_name(_given("name").strip())
    except ValueError as error:
        raise Invalid({"name": [str(error)]}) from None


def _one_of(field: str, words: Sequence[str]) -> str:
    if _given(field) not in words:
        raise Invalid({field: [f"{field} is one of {', '.join(words)}"]})
    return _given(field)


def _moment(name: str, text: str) -> datetime:
    try:
        return parse_moment(text, UTC)
    except ValidationError as error:
        raise Invalid({name: [str(message) for message in error.messages]}) from None


def _results(name: str, since: datetime) -> Question:
    """The newest alone."""
    conditions: list[Any] = [
        Condition("integration", Operator.EQUAL, [name]),
        Condition("received_at", Operator.GTE, [since]),
        Condition("verdict", Operator.NOT, [Verdict.STARTED]),
    ]
    newest = [Order("received_at", descending=True)]
    return Question(records=Records.DELIVERIES, conditions=conditions, order=newest, limit=1)
