"""Live: each outcome new or changed, as server-sent events.

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
from app.web.session import secret
from app.web.views import Blueprint, needs

LOOK_SECONDS = 1.0  # between looks whether the stream may go on
HEARTBEAT_SECONDS = 15.0
STALLED_SECONDS = 30.0  # without a byte read by the client
PIECE_LENGTH = 50_000  # of what a client is sent at once
HEADERS = {"X-Accel-Buffering": "no"}

log = logging.getLogger(__name__)

blueprint = Blueprint("live", __name__, url_prefix="/api/v1", description="What happens now")


class LiveSchema(QuestionSchema):
    """Filters alone: the order is that of the changes."""

    @post_load
    def asked(self, loaded: dict[str, Any], **kwargs: Any) -> Question:
        return self.question(loaded)


class ResumeSchema(Schema):
    """Where a stream is taken up again."""

    class Meta:
        unknown = EXCLUDE

    mark = fields.String(
        data_key=event_ids.HEADER,
        load_default="",
        metadata={"description": "The `id` of the last event seen; without it the stream begins now."},
    )


@blueprint.get("/live")
@needs(Scope.READ, gated=False)
@blueprint.asks(LiveSchema.about(OutcomeSchema))
@blueprint.asks(ResumeSchema(), location="headers")
@blueprint.answers({"type": "string"}, content_type="text/event-stream")
def follow(question: Question, headers: dict[str, str]) -> Response:
    """Follow each outcome new or changed as server-sent events; `Last-Event-ID` takes a stream up again."""
    permit(question, reveal=g.reveal)
    feed = parts().feed
    stream = feed.join()
    try:
        behind = _behind(headers["mark"], stream)
        told = _told(feed, stream, behind, _teller(feed, question), _may_go_on())
        answer = Response(told, mimetype="text/event-stream", headers=HEADERS)
        if connection := request.environ.get("gunicorn.socket"):
            connection.settimeout(STALLED_SECONDS)
    except BaseException:
        feed.leave(stream)
        raise
    answer.call_on_close(lambda: feed.leave(stream))
    return answer


def _behind(mark: str, stream: Stream) -> list[Span]:
    """What a stream that is taken up again has missed, until it joined."""
    if not mark:
        return []
    left = event_ids.read(mark, stream.since, renewed_at(parts().beside))
    return [left, Span(left.upto, stream.since)]


def _told(
    feed: Feed,
    stream: Stream,
    behind: list[Span],
    tell: Tell,
    may_go_on: Callable[[], bool],
) -> Iterator[str]:
    """The stream's text. It begins with an id, so that one that breaks before its first event loses nothing.

    While nothing new is asked for, ids go on nevertheless: an old one would be forgotten.
    """
    yield "retry: 1000\n" + ("\n" if behind else f"id: {event_ids.write(Span(stream.since, stream.since))}\n\n")
    try:
        for batch in chain.from_iterable(map(feed.read, behind)):
            yield from _whole(batch, tell)
            if not may_go_on():
                return
        spoke, told = time.monotonic(), Span(stream.since, stream.since)
        while may_go_on():
            text, told = stream.next(LOOK_SECONDS, tell) or ("", told)
            if text or time.monotonic() - spoke > HEARTBEAT_SECONDS:
                spoke = time.monotonic()
                yield text or f": nothing new\nid: {event_ids.write(told)}\n\n"
    except StoreError as error:
        log.warning("a live stream ends, to be taken up again: %s", error.detail)
    except Behind as error:
        log.warning("a live stream is broken off: %s", error)
        raise ConnectionResetError(errno.ECONNRESET, "a live stream is broken off") from error


def _whole(batch: Batch, tell: Tell) -> Iterator[str]:
    at = 0
    while True:
        text, at = tell(batch, at)
        yield text
        if not at:
            return


def _may_go_on() -> Callable[[], bool]:
    """While the token holds and the server does not stop."""
    feed, keyring, brought = parts().feed, parts().keyring, secret() or ""
    return lambda: not feed.is_stopping() and keyring.token(brought) is not None


def _teller(feed: Feed, question: Question) -> Tell:
    """Makes a batch's events, some at a time; those of a stream without filters are made once for all."""
    schema = OutcomeSchema(reveal=g.reveal)

    def shown(row: Mapping[str, Any]) -> str:
        return one_line(json_text(schema.record(row)))

    def tell(batch: Batch, start: int) -> tuple[str, int]:
        wanted = batch.rows if question == EVERY else feed.matching(question, batch.rows)
        events = batch.events(schema.reveal, shown)
        told = ""
        for number, (at, key, text) in enumerate(events[start:], start=start + 1):
            if key in wanted:
                told += f"id: {event_ids.write(at)}\ndata: {text}\n\n"
            if len(told) > PIECE_LENGTH and number < len(events):
                return told, number
        return told, 0

    return tell
