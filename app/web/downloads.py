"""Exports over HTTP. Each is made by a process of its own, whose bytes a worker only passes on."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Response, g, request

from app.exports import FORMATS
from app.model import Scope
from app.web.asking import Blueprint, needs
from app.web.auditing import Logged
from app.web.exports import REDIAL, SCHEMAS, Wanted, permit_all
from app.web.makers import Maker
from app.web.parts import parts

HEADERS = {"X-Accel-Buffering": "no"}

_FILE = {"type": "string", "format": "binary"}

blueprint = Blueprint("downloads", __name__, url_prefix="/api/v1", description="All of it, as files")


def _offer(records: str, form: str, scope: Scope, says: str) -> None:
    """A path for these records in this form."""

    @needs(scope, Logged.ALWAYS, gated=False)
    @blueprint.asks(SCHEMAS[records])
    @blueprint.answers(_FILE, content_type=FORMATS[form].content_type.partition(";")[0])
    def export(wanted: Wanted) -> Response:
        permit_all(wanted, reveal=g.reveal)
        return _made(records, form)

    export.__name__ = f"export_{records}_{form}"
    export.__doc__ = says
    blueprint.get(f"/{records}.{form}")(export)


for _form in FORMATS:
    _offer("outcomes", _form, Scope.READ, "All outcomes that the filters choose.")
    _offer("deliveries", _form, Scope.READ, "All deliveries that the filters choose.")
_offer(REDIAL, "csv", Scope.REVEAL, "The numbers that the filters choose, each once, as a contact list of Plum's.")


def _made(records: str, form: str) -> Response:
    """What is wrong with the question, or with the first bytes, is known before anything is sent."""
    parameters = list(request.args.items(multi=True))
    order = {"records": records, "format": form, "parameters": parameters, "reveal": g.reveal}
    maker = Maker(order, parts().settings.spool_dir)
    blocks = maker.blocks(request.environ.get("gunicorn.socket"))
    answer = Response(blocks, content_type=FORMATS[form].content_type, headers=HEADERS)
    answer.call_on_close(maker.end)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    answer.headers["Content-Disposition"] = f'attachment; filename="{records}-{moment}.{form}"'
    return answer
