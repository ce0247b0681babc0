"""Maps exceptions to HTTP responses: `application/problem+json` (RFC 9457) for analysts, a line of text for Plum."""

from __future__ import annotations

import json
import logging
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from app import metrics
from app.errors import (
    Contradicts,
    Disabled,
    EdgeLost,
    Exists,
    NotFound,
    Overloaded,
    PlumError,
    StoreRefused,
    StoreUnavailable,
    TooBroad,
    TooSlow,
)

RETRY_AFTER = ("Retry-After", "5")
# Headers of every response.
GUARDING = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
)

log = logging.getLogger(__name__)


class BodyTooLarge(PlumError):
    """More bytes than `PLUM_MAX_BODY_BYTES`."""


class Unauthorised(PlumError):
    """No token, or an invalid one."""


class WrongPassword(PlumError):
    """A post without the password that its integration demands."""


class Forbidden(PlumError):
    """A token whose scope does not include the request, or a refused sender or form."""


class Invalid(PlumError):
    """A request with wrong parameters; `errors` lists the errors by parameter."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__("; ".join(f"{name}: {text}" for name, texts in errors.items() for text in texts))
        self.errors = errors


STATUS: dict[type[PlumError], tuple[int, str, list[tuple[str, str]]]] = {
    Unauthorised: (401, "Unauthorized", [("WWW-Authenticate", "Bearer")]),
    WrongPassword: (401, "Unauthorized", [("WWW-Authenticate", 'Basic realm="results", charset="UTF-8"')]),
    Forbidden: (403, "Forbidden", []),
    NotFound: (404, "Not Found", []),
    Contradicts: (409, "Conflict", []),
    Exists: (409, "Conflict", []),
    Disabled: (409, "Conflict", []),
    BodyTooLarge: (413, "Content Too Large", []),
    Invalid: (422, "Unprocessable Content", []),
    EdgeLost: (422, "Unprocessable Content", []),
    TooBroad: (422, "Unprocessable Content", []),
    Overloaded: (503, "Service Unavailable", [RETRY_AFTER]),
    TooSlow: (503, "Service Unavailable", [("Retry-After", "60")]),
    StoreUnavailable: (503, "Service Unavailable", [RETRY_AFTER]),
    StoreRefused: (503, "Service Unavailable", [RETRY_AFTER]),
}


def status_of(error: PlumError) -> tuple[str, list[tuple[str, str]]]:
    """Return the status line and headers for a response to Plum."""
    status, title, headers = row(error)
    return f"{status} {title}", headers


def row(error: PlumError) -> tuple[int, str, list[tuple[str, str]]]:
    """Return status, title and headers. An error that is not in the table is ours, so the client may retry."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), STATUS[StoreUnavailable])


def register(app: Flask) -> None:
    """Register the handlers that turn every exception into its response."""
    for failure in STATUS:
        app.register_error_handler(failure, _plum_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected_error)
    app.after_request(_with_headers)


def _with_headers(answer: Response) -> Response:
    """Add the headers, and count a refused POST. Responses hold numbers and bodies, so no cache may keep them; static
    files set a maximum age and may be cached."""
    for name, value in GUARDING:
        if not (name == "Cache-Control" and answer.cache_control.max_age):
            answer.headers[name] = value
    is_accepted = answer.status_code < 300 or answer.status_code == 303  # the answer to a page's form
    if request.method == "POST" and not is_accepted:
        metrics.REFUSED.labels(reason="unknown_url" if answer.status_code == 404 else "api").inc()
    return answer


def _plum_error(error: PlumError) -> Response:
    status, title, headers = row(error)
    if status == 503:
        log.error("unavailable: %s", error.detail)
    return _answer(status, title, str(error), getattr(error, "errors", None), headers)


def _http_error(error: HTTPException) -> Response:
    answer = _answer(error.code or 500, error.name, error.description or error.name, None, [])
    if allowed := getattr(error, "valid_methods", None):
        answer.headers["Allow"] = ", ".join(sorted(allowed))
    return answer


def _unexpected_error(error: Exception) -> Response:
    """The response to a bug of ours; the log has the traceback."""
    log.error("unexpected failure in %s", request.endpoint, exc_info=error)
    return _answer(500, "Internal Server Error", "an unexpected failure; the log has its trace", None, [])


def _answer(
    status: int, title: str, detail: str, errors: dict[str, list[str]] | None, headers: list[tuple[str, str]]
) -> Response:
    if not request.path.startswith("/api/"):
        return Response(f"{detail}\n", status, mimetype="text/plain", headers=headers)
    problem: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if errors:
        problem["errors"] = errors
    return Response(json.dumps(problem), status, mimetype="application/problem+json", headers=headers)
