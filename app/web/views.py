"""Decorators for views of the query API: scope, parameters, responses and failures, each documented in OpenAPI."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any, NoReturn, TypeVar, cast

import flask_smorest
from flask import Request, Response, g, request
from marshmallow import RAISE, Schema, ValidationError, fields
from webargs.flaskparser import FlaskParser

from app.model import Scope, Token
from app.web.auditing import Logged, logged
from app.web.errors import Forbidden, Invalid, Unauthorised
from app.web.parts import parts
from app.web.session import asker

PROBLEM = "Problem"  # the OpenAPI component of every failure

_View = TypeVar("_View", bound=Callable[..., Response])


class _Parser(FlaskParser):
    """Passes each parameter's texts to the question's schema, and reports errors as `Invalid`."""

    DEFAULT_UNKNOWN_BY_LOCATION: dict[str, str | None] = {"query": RAISE}  # noqa: RUF012

    def load_querystring(self, req: Request, schema: Schema) -> Any:
        return dict(req.args.lists())

    def handle_error(self, error: ValidationError, *args: Any, **kwargs: Any) -> NoReturn:
        messages: Any = error.messages
        raise Invalid(messages["query"])


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """A blueprint whose decorators also document the views."""

    ARGUMENTS_PARSER = _Parser()

    def get(self, rule: str) -> Callable[[_View], _View]:
        """Register a view for GET."""
        return self._with_operation_id(self.route(rule))

    def post(self, rule: str) -> Callable[[_View], _View]:
        """Register a view for POST, which changes something."""
        return self._with_operation_id(self.route(rule, methods=["POST"]))

    def _with_operation_id(self, route: Callable[[_View], _View]) -> Callable[[_View], _View]:
        """Set the operation id to the view's name: generated clients name their functions by it."""
        return lambda view: route(cast(_View, self.doc(operationId=view.__name__)(view)))

    def asks(self, schema: Schema, location: str = "query") -> Callable[[_View], _View]:
        """Parse the query string, or the headers, by the schema, and pass the result as the view's next argument."""
        return lambda view: fails(422)(self.arguments(schema, location=location)(view))

    def asks_nothing(self, view: _View) -> _View:
        """Refuse all parameters, which the view would ignore silently."""

        @wraps(view)
        def without_parameters(*args: Any, **kwargs: Any) -> Response:
            if request.args:
                raise Invalid({name: ["this takes no parameters"] for name in request.args})
            return view(*args, **kwargs)

        return fails(422)(cast(_View, without_parameters))

    def takes(self, schema: type[Schema]) -> Callable[[_View], _View]:
        """Document the body: a JSON object that the schema describes, or a list of them."""
        several = {"oneOf": [schema, {"type": "array", "items": schema}]}
        body = {"required": True, "content": {"application/json": {"schema": several}}}
        decorate: Callable[[_View], _View] = self.doc(requestBody=body)
        return decorate

    def answers(self, schema: Any, **options: Any) -> Callable[[_View], _View]:
        """Document the view's response."""
        decorate: Callable[[_View], _View] = self.response(200, schema, **options)
        return decorate


class ProblemSchema(Schema):
    """Problem details (RFC 9457); `errors` lists the errors by parameter."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()))


def needs(scope: Scope, when: Logged = Logged.REVEALED, *, limited: bool = True) -> Callable[[_View], _View]:
    """Allow tokens of this scope or a wider one, and log the request. `g.reveal` says whether numbers may be shown.

    `limited` views share the limit of concurrent questions. Other views have limits of their own, since they stream
    or wait for the analytical copy.
    """

    def decorate(view: _View) -> _View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Response:
            token = _token()
            if not token.scope.includes(scope):
                raise Forbidden(f"this needs a token with the scope {scope}; yours has {token.scope}")
            g.reveal = token.scope.includes(Scope.REVEAL)
            with parts().question_limit.slot() if limited else nullcontext():
                return logged(when, token, lambda: view(*args, **kwargs), kwargs)

        bearer: _View = flask_smorest.Blueprint.doc(security=[{"bearer": []}])(guarded)
        return fails(401, 403, 503)(bearer)

    return decorate


def fails(*statuses: int) -> Callable[[_View], _View]:
    """Document the statuses with which a view can fail."""
    decorate: Callable[[_View], _View] = flask_smorest.Blueprint.doc(responses=dict.fromkeys(statuses, PROBLEM))
    return decorate


def _token() -> Token:
    token = asker()
    if token is None:
        raise Unauthorised("send a token: Authorization: Bearer TOKEN; see: plum-outcomes token add")
    return token
