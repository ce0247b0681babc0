"""Exports over HTTP. The copy's process or one of their own makes the file; a worker only passes the bytes on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from flask import Response, g, request

from app.analytics.protocol import File
from app.model import Scope
from app.web.auditing import Logged
from app.web.export_jobs import Job, passed_on
from app.web.exports import CONTENT_TYPES, REDIAL, SCHEMAS, ExportQuery, columns, permit_all
from app.web.parts import parts
from app.web.schemas import OutcomeSchema
from app.web.views import Blueprint, needs

HEADERS = {"X-Accel-Buffering": "no"}

_FILE = {"type": "string", "format": "binary"}

blueprint = Blueprint("downloads", __name__, url_prefix="/api/v1", description="Exports as files")


def _offer(records: str, form: str, scope: Scope, description: str) -> None:
    """Register the path of these records in this format."""

    @needs(scope, Logged.ALWAYS, limited=False)
    @blueprint.asks(SCHEMAS[records])
    @blueprint.answers(_FILE, content_type=CONTENT_TYPES[form].partition(";")[0])
    def export(query: ExportQuery) -> Response:
        permit_all(query, reveal=g.reveal)
        return file_response(query, records, form, list(request.args.items(multi=True)))

    export.__name__ = f"export_{records}_{form}"
    export.__doc__ = description
    blueprint.get(f"/{records}.{form}")(export)


for _form in CONTENT_TYPES:
    _offer("outcomes", _form, Scope.READ, "All outcomes that the filters choose.")
    _offer("deliveries", _form, Scope.READ, "All deliveries that the filters choose.")
_offer(REDIAL, "csv", Scope.REVEAL, "The numbers that the filters choose, each once, as a contact list of Plum's.")


def file_response(query: ExportQuery, records: str, form: str, parameters: list[tuple[str, str]]) -> Response:
    """Return the file as a response; `parameters` are the parameters from which `query` was parsed."""
    if _is_made_by_copy(records, form):
        return _made_by_copy(query, records, form)
    return _made_apart(records, form, parameters)


def _is_made_by_copy(records: str, form: str) -> bool:
    return records == REDIAL or (records == "outcomes" and form != "xlsx")


def _made_by_copy(query: ExportQuery, records: str, form: str) -> Response:
    """Let the copy's process make the file."""
    names = [column.name for column in columns(OutcomeSchema, query.fields, body=False)]
    file = File(REDIAL if records == REDIAL else form, query.question, names, g.reveal, query.raw)
    return _answer(passed_on(parts().router.file(file)), records, form)


def _made_apart(records: str, form: str, parameters: list[tuple[str, str]]) -> Response:
    """Let a process of its own make the file. A failure before the first bytes still becomes an error response."""
    job = Job(
        {"records": records, "format": form, "parameters": parameters, "reveal": g.reveal}, parts().settings.spool_dir
    )
    answer = _answer(passed_on(job.blocks()), records, form)
    answer.call_on_close(job.end)
    return answer


def _answer(blocks: Iterator[bytes], records: str, form: str) -> Response:
    answer = Response(blocks, content_type=CONTENT_TYPES[form], headers=HEADERS)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    answer.headers["Content-Disposition"] = f'attachment; filename="{records}-{moment}.{form}"'
    return answer
