"""What a live stream says while there is nothing to tell."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from flask import Flask, g

from app.store.journal import Change, Horizon, Span
from app.web import event_ids, live
from app.web.errors import Invalid
from app.web.feed import EVERY, Batch, Behind, Recent, Stream
from app.web.schemas import OutcomeSchema

NOW = datetime(2026, 3, 8, tzinfo=UTC)


def test_ids_advance_while_no_event_matches(monkeypatch) -> None:
    """A client that comes again after days brings the last one, which must not be older than what is kept."""
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0)
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.001)
    recent = Recent()
    stream = Stream(Horizon(5), recent)
    told = live._events(stream, None, lambda batch, at: ("", 0), lambda: True)
    assert _mark(next(told)) == _mark(next(told)) == Span(Horizon(5), Horizon(5))
    batch = Batch(Span(Horizon(5), Horizon(9)), [Change(7, NOW, [uuid4(), uuid4()])], {})
    recent.put(batch)
    assert _mark(next(told)) == batch.rest == _mark(next(told))


def test_an_event_is_one_line_with_any_record() -> None:
    row = dict.fromkeys(OutcomeSchema().fields) | {"call_id": "a\u2028b\u2029c\x85d"}
    key = uuid4()
    batch = Batch(Span(Horizon(5), Horizon(9)), [Change(7, NOW, [key])], {key: row})
    with Flask("test").app_context():
        g.reveal = True
        told, rest = live._renderer(SimpleNamespace(), EVERY)(batch, 0)
    assert rest == 0
    _, data, *_ = told.splitlines()
    assert json.loads(data.removeprefix("data: "))["call_id"] == row["call_id"]


def test_the_id_of_an_event_is_as_old_as_its_change(monkeypatch) -> None:
    """A client that was away for six days is sent what it missed, breaks off, and comes again two days later."""
    now, key = datetime.now(UTC), uuid4()
    row = dict.fromkeys(OutcomeSchema().fields)
    batch = Batch(Span(Horizon(5), Horizon(9)), [Change(7, now - timedelta(days=6), [key])], {key: row})
    with Flask("test").app_context():
        g.reveal = True
        told, _ = live._renderer(SimpleNamespace(), EVERY)(batch, 0)
    assert _mark(told) == batch.rest
    monkeypatch.setattr(event_ids, "time", SimpleNamespace(time=lambda: (now + timedelta(days=2)).timestamp()))
    with pytest.raises(Invalid, match="older than 7 days"):
        _mark(told)


def _mark(said: str) -> Span:
    [line] = [line for line in said.split("\n") if line.startswith("id: ")]
    return event_ids.read(line.removeprefix("id: "), Horizon(100))[0]


def _tell(batch: Batch, at: int) -> tuple[str, int]:
    return str(id(batch)), 0


def _batch(text: str) -> Batch:
    key = uuid4()
    return Batch(
        Span(Horizon(5), Horizon(9)), [Change(7, NOW, [key])], {key: {"id": key, "batch": text, "attempts": 1}}
    )


def test_streams_share_the_newest_batches_which_are_bounded_by_their_size() -> None:
    recent = Recent(limit=1000)
    slow, quick = Stream(Horizon(5), recent), Stream(Horizon(5), recent)
    batches = [_batch("x" * 400) for _ in range(4)]
    for batch in batches:
        recent.put(batch)
        assert quick.next(0, _tell) == (str(id(batch)), batch.rest)
    assert quick.next(0, _tell) is None
    with pytest.raises(Behind):
        slow.next(0, _tell)


def test_a_batch_beyond_the_limit_is_still_sent() -> None:
    recent = Recent(limit=10)
    stream = Stream(Horizon(5), recent)
    batch = _batch("x" * 400)
    recent.put(batch)
    assert stream.next(0, _tell) == (str(id(batch)), batch.rest)
    assert Stream(Horizon(5), recent).next(0, _tell) is None


def test_a_large_batch_is_sent_in_pieces_and_dropped_for_slow_readers() -> None:
    recent = Recent(limit=500)
    stream = Stream(Horizon(5), recent)
    batch = _batch("x" * 400)
    recent.put(batch)
    pieces = {0: ("a", 3), 3: ("b", 7), 7: ("c", 0)}
    assert stream.next(0, lambda batch, at: pieces[at]) == ("a", Span(Horizon(5), Horizon(5)))
    assert stream.next(0, lambda batch, at: pieces[at]) == ("b", Span(Horizon(5), Horizon(5)))
    recent.put(_batch("x" * 400))
    with pytest.raises(Behind):
        stream.next(0, lambda batch, at: pieces[at])


def test_an_id_of_before_the_journal_was_renewed_is_refused() -> None:
    mark = event_ids.write(Span(Horizon(1), Horizon(2)), time.time())
    assert event_ids.read(mark, Horizon(100), renewed_at=time.time() - 9)
    with pytest.raises(Invalid):
        event_ids.read(mark, Horizon(100), renewed_at=time.time() + 9)
