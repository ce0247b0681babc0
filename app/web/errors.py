"""One table from failures to HTTP. Analysts get `application/problem+json` (RFC 9457), Plum a line of text."""

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
# With every answer.
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
    """No token, or one that opens nothing."""


class WrongPassword(PlumError):
    """A post without the password that its integration asks for."""


class Forbidden(PlumError):
    """A token whose scope does not include this."""


class Invalid(PlumError):
    """A question that cannot be put so; `errors` says what is wrong, by parameter."""

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
    """The status line and headers for Plum's face."""
    status, title, headers = row(error)
    return f"{status} {title}", headers


def row(error: PlumError) -> tuple[int, str, list[tuple[str, str]]]:
    """A failure without a row is ours, so it may be tried again."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), STATUS[StoreUnavailable])


def register(app: Flask) -> None:
    """Let every failure leave in its form."""
    for failure in STATUS:
        app.register_error_handler(failure, _known)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unknown)
    app.after_request(_guarded)


def _guarded(answer: Response) -> Response:
    """Answers hold numbers and bodies, which no cache is to keep, but for what the page is made of; a post that was
    refused is counted."""
    for name, value in GUARDING:
        if not (name == "Cache-Control" and answer.cache_control.max_age):
            answer.headers[name] = value
    was_taken = answer.status_code < 300 or answer.status_code == 303  # as a page's form is
    if request.method == "POST" and not was_taken:
        metrics.REFUSED.labels(reason="unknown_url" if answer.status_code == 404 else "api").inc()
    return answer


def _known(error: PlumError) -> Response:
    status, title, headers = row(error)
    if status == 503:
        log.error("unavailable: %s", error.detail)
    return _answer(status, title, str(error), getattr(error, "errors", None), headers)


def _http(error: HTTPException) -> Response:
    answer = _answer(error.code or 500, error.name, error.description or error.name, None, [])
    if allowed := getattr(error, "valid_methods", None):
        answer.headers["Allow"] = ", ".join(sorted(allowed))
    return answer


def _unknown(error: Exception) -> Response:
    """A fault of ours; the log has the trace."""
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
