"""A page of a list in the query API: its records, links to the next and previous page, and the count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from flask import Response, g, jsonify, request
from werkzeug.datastructures import MultiDict

from app.cooperative import cooperatively
from app.errors import NotFound
from app.identity import start_id
from app.store.pagination import Page
from app.store.query.question import Question
from app.web import cursors
from app.web.filters import ListQuery, permit
from app.web.origin import base_url
from app.web.parts import parts
from app.web.schemas import OutcomeSchema, RecordSchema


def list_response(query: ListQuery, kind: type[RecordSchema]) -> Response:
    """Return a page of these records. A request that waits for the copy takes no slot from those to the store."""
    permit(query.question, reveal=g.reveal)
    router, schema = parts().router, schema_of(kind, query.fields)
    matches = router.find(query.question)
    with parts().question_limit.slot():
        page = router.rows(query.question, matches, query.fields)
        records = [schema.record(row) for row in cooperatively(page.rows)]
    with nullcontext() if kind is OutcomeSchema else parts().question_limit.slot():
        counted = router.count(page, query.question, query.count)._asdict()
    links = links_of(page, query.question, kind())
    answer = jsonify({"data": records, **links, "count": counted})
    answer.headers["Link"] = ", ".join(f'<{url}>; rel="{name}"' for name, url in links.items() if url)
    return answer


def schema_of(kind: type[RecordSchema], fields: list[str] | None = None) -> RecordSchema:
    """Return the schema of these records, masked unless the token may reveal."""
    return kind(reveal=g.reveal, only=fields)


def deliveries_about(outcome: Mapping[str, Any]) -> list[UUID]:
    """Return the values of `outcome_id` in the deliveries about a call: the call's id, and that of its start."""
    phone = outcome["phone_number"] or outcome["phone_number_raw"]
    start = start_id(outcome["integration"], outcome["call_id"], outcome["message_reference"], phone)
    return [outcome["id"], *([start] if start else [])]


def id_of(text: str) -> UUID:
    """Parse an id in a URL's path. Raises `NotFound`."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"{text} is no id; ids are UUIDs") from None


def links_of(page: Page, question: Question, schema: RecordSchema) -> dict[str, str | None]:
    """Return the URLs of the next and the previous page, None at the ends."""

    def link(exists: bool, edge: Sequence[Any], backwards: bool) -> str | None:
        if not (exists and edge):
            return None
        return _url(cursors.write(schema, question, edge, backwards=backwards))

    return {"next": link(page.more_after, page.last, False), "prev": link(page.more_before, page.first, True)}


def _url(cursor: str) -> str:
    """Return this request's URL with another cursor."""
    args = MultiDict(request.args)
    args["cursor"] = cursor
    return f"{_here()}?{urlencode(list(args.items(multi=True)))}"


def _here() -> str:
    settings = parts().settings
    return base_url(request.environ, settings.trusted_proxies, settings.public_url) + quote(request.path)
