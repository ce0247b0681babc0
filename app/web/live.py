"""Live streams: each outcome that is new or changed, as server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from flask import Response, g, request
from marshmallow import EXCLUDE, Schema, fields, post_load

from app.errors import StoreError
from app.exports.cells import json_text, one_line
from app.model import Scope
from app.store.journal import Span, renewed_at
from app.store.query.question import Question
from app.web import event_ids
from app.web.feed import EVERY, Batch, Behind, Feed, Stream, Tell
from app.web.filters import QuestionSchema, permit
from app.web.parts import parts
from app.web.schemas import OutcomeSchema
from app.web.session import validity
from app.web.views import Blueprint, needs

LOOK_SECONDS = 1.0  # between checks whether the stream may continue
HEARTBEAT_SECONDS = 15.0
STALLED_SECONDS = 30.0  # timeout for a client that reads nothing
PIECE_LENGTH = 50_000  # approximate number of characters sent at once
HEADERS = {"X-Accel-Buffering": "no"}

log = logging.getLogger(__name__)

blueprint = Blueprint("live", __name__, url_prefix="/api/v1", description="Live streams")


class LiveSchema(QuestionSchema):
    """The parameters of a live stream: filters only, since events come in the order of the changes."""

    @post_load
    def build_query(self, loaded: dict[str, Any], **kwargs: Any) -> Question:
        return self.question(loaded)


class ResumeSchema(Schema):
    """The header that resumes a stream."""

    class Meta:
        unknown = EXCLUDE

    mark = fields.String(
        data_key=event_ids.HEADER,
        load_default="",
        metadata={"description": "The `id` of the last event seen; without it the stream begins now."},
    )


@blueprint.get("/live")
@needs(Scope.READ, limited=False)
@blueprint.asks(LiveSchema.about(OutcomeSchema))
@blueprint.asks(ResumeSchema(), location="headers")
@blueprint.answers({"type": "string"}, content_type="text/event-stream")
def follow(question: Question, headers: dict[str, str]) -> Response:
    """Follow each new or changed outcome as server-sent events; `Last-Event-ID` resumes a stream."""
    permit(question, reveal=g.reveal)
    feed = parts().feed
    stream = feed.join()
    try:
        missed = _missed(headers["mark"], feed, stream)
        events = _events(stream, missed, _renderer(feed, question), _may_go_on())
        answer = Response(events, mimetype="text/event-stream", headers=HEADERS)
        if connection := request.environ.get("gunicorn.socket"):
            connection.settimeout(STALLED_SECONDS)
    except BaseException:
        feed.leave(stream)
        raise
    answer.call_on_close(lambda: feed.leave(stream))
    return answer


def _missed(mark: str, feed: Feed, stream: Stream) -> Iterator[Batch] | None:
    """Return what a resumed stream has missed since the event with the id `mark`; None for a new stream."""
    if not mark:
        return None
    rest, changed_at = event_ids.read(mark, stream.since, renewed_at(parts().beside))
    return _unless_forgotten(chain.from_iterable(map(feed.read, [rest, Span(rest.upto, stream.since)])), changed_at)


def _unless_forgotten(batches: Iterator[Batch], changed_at: float) -> Iterator[Batch]:
    """Yield the batches after a change of that time. Raises `Behind` if the journal may have lost some of them while
    a slow client read the ones before."""
    for batch in batches:
        if event_ids.is_forgotten(changed_at):
            break
        changed_at = batch.changed_at
        yield batch
    if event_ids.is_forgotten(changed_at):
        raise Behind("the journal no longer keeps what it has missed")


def _events(
    stream: Stream,
    missed: Iterator[Batch] | None,
    render: Tell,
    may_go_on: Callable[[], bool],
) -> Iterator[str]:
    """Yield the stream's text. It begins with an id, so that a client can resume before the first event.

    While no outcome matches the question, heartbeats carry new ids, since the journal forgets what old ids refer to.
    """
    position, joined_at = Span(stream.since, stream.since), time.time()
    yield "retry: 1000\n" + (f"id: {event_ids.write(position, joined_at)}\n\n" if missed is None else "\n")
    try:
        for batch in missed or ():
            yield from _batch_texts(batch, render)
            if not may_go_on():
                return
        if missed is not None:
            yield f": nothing else was missed\nid: {event_ids.write(position, joined_at)}\n\n"
        sent_at = time.monotonic()
        while may_go_on():
            text, position = stream.next(LOOK_SECONDS, render) or ("", position)
            if text or time.monotonic() - sent_at > HEARTBEAT_SECONDS:
                sent_at = time.monotonic()
                yield text or f": nothing new\nid: {event_ids.write(position, time.time())}\n\n"
    except StoreError as error:
        log.warning("a live stream ends; its client will reconnect: %s", error.detail)
    except Behind as error:
        log.warning("a live stream is broken off: %s", error)
        raise ConnectionResetError(errno.ECONNRESET, "a live stream is broken off") from error


def _batch_texts(batch: Batch, render: Tell) -> Iterator[str]:
    number = 0
    while True:
        text, number = render(batch, number)
        yield text
        if not number:
            return


def _may_go_on() -> Callable[[], bool]:
    """Return a check: true while the token is valid and the server is not stopping."""
    feed, is_valid = parts().feed, validity()
    return lambda: not feed.is_stopping() and is_valid()


def _renderer(feed: Feed, question: Question) -> Tell:
    """Return a function that renders a batch's events piece by piece. All streams share the rendered outcomes."""
    schema = OutcomeSchema(reveal=g.reveal)

    def as_json(row: Mapping[str, Any]) -> str:
        return one_line(json_text(schema.record(row)))

    def render(batch: Batch, start: int) -> tuple[str, int]:
        matches = batch.rows if question == EVERY else feed.matching(question, batch.rows)
        events = batch.events(schema.reveal, as_json)
        piece = ""
        for number, (position, key, text) in enumerate(events[start:], start=start + 1):
            if key in matches:
                piece += f"id: {event_ids.write(position, batch.changed_at)}\ndata: {text}\n\n"
            if len(piece) > PIECE_LENGTH and number < len(events):
                return piece, number
        return piece, 0

    return render
