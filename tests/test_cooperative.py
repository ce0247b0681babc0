"""Who shows many records gives way to the worker's other requests, and makes nothing twice meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from app import cooperative
from app.cooperative import SLICE_SECONDS
from app.store.journal import Change, Horizon, Span
from app.web.feed import Batch

NOW = datetime(2026, 3, 8, tzinfo=UTC)


@pytest.mark.parametrize("seconds, turns", [(0.0, 0), (2 * SLICE_SECONDS, 3)])
def test_others_have_their_turn_after_each_large_record_of_a_stream(monkeypatch, seconds, turns) -> None:
    keys = [uuid4() for _ in range(3)]
    batch = Batch(Span(Horizon(0), Horizon(1)), [Change(1, NOW, keys)], {key: {"id": key} for key in keys})
    given: list[float] = []
    monkeypatch.setattr(cooperative, "time", SimpleNamespace(monotonic=time.monotonic, sleep=given.append))
    batch.events(False, lambda row: "" if threading.Event().wait(seconds) else "text")
    assert given == [0] * turns


def test_streams_that_have_their_turn_meanwhile_do_not_make_the_same_texts_again() -> None:
    keys = [uuid4() for _ in range(3)]
    batch = Batch(Span(Horizon(0), Horizon(1)), [Change(1, NOW, keys)], {key: {"id": key} for key in keys})
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
