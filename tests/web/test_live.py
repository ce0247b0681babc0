"""What a live stream says while there is nothing to tell."""

from __future__ import annotations

import time
from types import SimpleNamespace
from uuid import uuid4

import pytest

from app.store.changes import Change, Horizon, Span
from app.web import live, marks
from app.web.errors import Invalid
from app.web.feed import Batch, Stream


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


def _mark(said: str) -> Span:
    [line] = [line for line in said.split("\n") if line.startswith("id: ")]
    return marks.read(line.removeprefix("id: "), Horizon(100))


def test_an_id_of_before_the_journal_was_renewed_is_refused() -> None:
    mark = marks.write(Span(Horizon(1), Horizon(2)))
    assert marks.read(mark, Horizon(100), renewed_at=time.time() - 9)
    with pytest.raises(Invalid):
        marks.read(mark, Horizon(100), renewed_at=time.time() + 9)
