"""The log shows where a failure arose and of what kind it is, and nothing that anybody sent."""

from __future__ import annotations

import json
import logging
import sys
import threading

import pytest

from app import logs

VALUE = "16175551234"


def fail() -> None:
    try:
        try:
            raise ValueError(VALUE)
        except ValueError as error:
            raise KeyError(VALUE) from error
    except KeyError:
        raise ExceptionGroup(VALUE, [OSError(VALUE)])  # noqa: B904  its context is shown as well


def shown(form: str) -> str:
    formatter = logs.Text() if form == "text" else logs.JsonLines()
    try:
        fail()
    except ExceptionGroup:
        record = logging.LogRecord("app", logging.ERROR, __file__, 1, "it failed", None, sys.exc_info())
    return formatter.format(record)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_trace_has_frames_and_kinds_of_the_whole_chain_and_no_value(form: str) -> None:
    text = shown(form)
    assert logs.config(form)["formatters"][form]["()"] in (logs.Text, logs.JsonLines)
    for kind in ("ValueError", "KeyError", "ExceptionGroup", "OSError"):
        assert kind in text
    assert "in fail" in text
    assert VALUE not in text
    assert form == "text" or json.loads(text)["message"] == "it failed"


def test_a_failing_thread_is_logged(monkeypatch, caplog, capsys) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    logs.log_what_ends_threads()
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert [record.message for record in caplog.records] == ["a thread has ended by a failure"]
    assert VALUE not in capsys.readouterr().err


def test_of_warnings_that_say_the_same_a_few_are_logged_and_then_how_many_more(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    sparing = logs.Sparing()

    def logged(text: str, *args: object, level: int = logging.WARNING) -> str | None:
        record = logging.LogRecord("app.x", level, "", 0, text, args, None)
        return record.getMessage() if sparing.filter(record) else None

    assert [logged("100 %% of %s", "a") for _ in range(8)] == ["100 % of a"] * 5 + [None] * 3
    assert logged("100 %% of %s", "b") == "100 % of b"
    assert [logged("started", level=logging.INFO) for _ in range(8)] == ["started"] * 8
    now[0] += logs.WINDOW_SECONDS
    assert logged("100 %% of %s", "a") == "100 % of a (3 more like it came before)"
    assert logged("100 %% of %s", "a") == "100 % of a"
