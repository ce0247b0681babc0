"""The OpenAPI document, made from the schemas that validate and serialise, and its page. Neither needs a token."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, current_app, send_from_directory
from flask_smorest import Api

from app.errors import NotFound
from app.web.openapi_parameters import Plugin
from app.web.views import PROBLEM, ProblemSchema

pages = Blueprint("document", __name__, url_prefix="/api")

_DIRECTORY = Path(__file__).parent / "docs"
_SWAGGER_UI = {"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"}
# This server serves all files of the page. Swagger UI sets inline styles and uses `data:` images.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Api(Api):  # type: ignore[misc]
    """Documents failures as problems; each view names the statuses that it can return."""

    DEFAULT_ERROR_RESPONSE_NAME = None
    ERROR_SCHEMA = ProblemSchema


def publish(app: Flask, *blueprints: Any) -> None:
    """Register the blueprints, and the document that describes them."""
    api = _Api(app, spec_kwargs={"marshmallow_plugin": Plugin(), **_ABOUT})
    api.spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    problem = {"schema": {"$ref": f"#/components/schemas/{PROBLEM}"}}
    response = {"description": "What is wrong, and what is allowed", "content": {"application/problem+json": problem}}
    api.spec.components.response(PROBLEM, response)
    for blueprint in blueprints:
        api.register_blueprint(blueprint)
    app.extensions["openapi"] = json.dumps(api.spec.to_dict(), ensure_ascii=False)
    app.register_blueprint(pages)


_ABOUT = {
    "title": "Plum Outcomes",
    "version": "1",
    "openapi_version": "3.1.0",
    "info": {
        "description": (
            "The results of calls. Filters: `field=value` or `field=a,b` (any of), `field__not`, `__gt`, "
            "`__gte`, `__lt`, `__lte`, `__prefix`, `__contains`, `__null=true|false`. A parameter that is given "
            "more than once matches any of its values, each taken whole, commas included."
        )
    },
}


@pages.get("/openapi.json")
def show_document() -> Response:
    return Response(current_app.extensions["openapi"], mimetype="application/json")


@pages.get("/docs")
def show_page() -> Response:
    answer = send_from_directory(_DIRECTORY, "index.html")
    answer.headers["Content-Security-Policy"] = _POLICY
    return answer


@pages.get("/docs/<name>")
def show_asset(name: str) -> Response:
    if name in _SWAGGER_UI:
        return send_from_directory(str(files("flask_swagger_ui") / "dist"), name, max_age=86400)
    if name == "start.js":
        return send_from_directory(_DIRECTORY, name)
    raise NotFound(f"there is no {name}")
