"""Responses in Plum's two formats, with their errors."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from flask import Response, request
from werkzeug.exceptions import HTTPException

from app.plum.simulator.wire_forms import JSON, XML, as_json, as_xml

# Credentials for trying out; valid on loopback only.
USER, KEY = "tester@plum.example", "loopback-developer-key"
LOGIN, PIN = "tester", "12345678"

# Error texts by HTTP status, for requests without a specific error.
ERRORS = {
    401: "The authentication headers were invalid or the account is inactive.",
    403: "The account does not have appropriate permissions.",
    404: "No deployment was found by that application id and deployment id.",
    405: "An invalid HTTP method was supplied.",
    409: "The deployment has expired.",
    415: "The media type is not supported.",
    500: "A database error occurred.",
}


def is_known(user: str, secret: str, known: tuple[str, str]) -> bool:
    return hmac.compare_digest(f"{user}\0{secret}".encode(), "\0".join(known).encode())


def wants_xml() -> bool:
    return request.accept_mimetypes.best_match([JSON, XML, "application/xml"], JSON) != JSON


def insight_or_fuse(product: str, fields: Mapping[str, Any], status: int = 200, link: str | None = None) -> Response:
    """Return a response of Insight or Fuse, in XML if the request prefers it; Insight's contains `success`."""
    content = {"success": status < 400, **fields} if product == "insight" else fields
    content_type, body = (XML, as_xml("result", content)) if wants_xml() else (JSON, as_json(content))
    response = Response(body, status, content_type=content_type)
    if link is not None:
        response.headers["Link"] = link
    return response


def dev(root: str, word: str, call_id: int | None = None, status: int = 200) -> Response:
    """Return a response of DEV, which repeats the form, including login and PIN."""
    attributes = {"status": word} | ({} if call_id is None else {"call_id": str(call_id)})
    return Response(as_xml(root, dict(request.form), attributes), status, content_type=XML)


def error(failure: HTTPException) -> Response:
    """Return an error response in the format of the product in the URL."""
    status = failure.code or 500
    product = request.path.split("/")[1]
    if product == "dev":
        return dev("queuecall", "failed", status=status)
    text = failure.description if status == 400 else ERRORS.get(status, failure.name)
    return insight_or_fuse(product, {"error": text}, status)
