"""What a live stream says while there is nothing to tell."""

from __future__ import annotations

import json
from types import SimpleNamespace
from uuid import uuid4

from flask import Flask, g

from app.store.changes import Change, Horizon, Span
from app.web import live, marks
from app.web.feed import EVERY, Batch, Stream
from app.web.schemas import OutcomeSchema


def test_ids_go_on_while_nothing_comes_that_was_asked_for(monkeypatch) -> None:
    """A client that comes again after days brings the last one, which must not be older than what is kept."""
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0)
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.001)
    stream = Stream(Horizon(5))
    told = live._told(SimpleNamespace(read=lambda span: ()), stream, [], lambda batch: "", lambda: True)
    assert _mark(next(told)) == _mark(next(told)) == Span(Horizon(5), Horizon(5))
    batch = Batch(Span(Horizon(5), Horizon(9)), [Change(7, [uuid4(), uuid4()])], {})
    stream.put(batch)
    assert _mark(next(told)) == batch.rest == _mark(next(told))


def test_an_event_is_one_line_whatever_stands_in_its_record(monkeypatch) -> None:
    row = dict.fromkeys(OutcomeSchema().fields) | {"call_id": "a\u2028b\u2029c\x85d"}
    monkeypatch.setattr(live, "parts", lambda: SimpleNamespace(settings=SimpleNamespace(default_region="US")))
    key = uuid4()
    batch = Batch(Span(Horizon(5), Horizon(9)), [Change(7, [key])], {key: row})
    with Flask("test").app_context():
        g.reveal = True
        _, data, *_ = live._teller(SimpleNamespace(), EVERY)(batch).splitlines()
    assert json.loads(data.removeprefix("data: "))["call_id"] == row["call_id"]


def _mark(said: str) -> Span:
    [line] = [line for line in said.split("\n") if line.startswith("id: ")]
    return marks.read(line.removeprefix("id: "), Horizon(100))
