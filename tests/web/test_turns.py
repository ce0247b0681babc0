"""Who shows many records gives way to the worker's other requests, and makes nothing twice meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest

from app.store.changes import Change, Horizon, Span
from app.web.feed import Batch
from app.web.schemas import LONG_SECONDS, RecordSchema


class Slow(RecordSchema):
    """Takes as long for a record as the row says."""

    def record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        threading.Event().wait(row["seconds"])
        return dict(row)


def test_others_have_their_turn_after_a_large_record_only(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[float] = []
    monkeypatch.setattr(time, "sleep", turns.append)
    for seconds, turns_so_far in ((0, 0), (2 * LONG_SECONDS, 1), (0, 1)):
        assert Slow().in_turn({"seconds": seconds}) == {"seconds": seconds}
        assert turns == [0] * turns_so_far


def test_streams_that_have_their_turn_meanwhile_do_not_make_the_same_texts_again() -> None:
    keys = [uuid4() for _ in range(3)]
    batch = Batch(Span(Horizon(0), Horizon(1)), [Change(1, keys)], {key: {"id": key} for key in keys})
    made: list[Any] = []

    def text(row: Mapping[str, Any]) -> str:
        time.sleep(0.01)
        made.append(row["id"])
        return "text"

    streams = [threading.Thread(target=batch.events, args=(False, text)) for _ in range(3)]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join()
    assert made == keys
