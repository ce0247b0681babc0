"""Questions beyond what runs well wait a moment, and beyond that are refused at once."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from app.web.concurrency import ConcurrencyLimit
from app.web.errors import Overloaded


def test_so_many_run_and_others_are_refused() -> None:
    limit = ConcurrencyLimit(2, waiting=0)
    with ExitStack() as stack:
        stack.enter_context(limit.slot())
        stack.enter_context(limit.slot())
        with pytest.raises(Overloaded), limit.slot():
            pass
    with limit.slot():
        pass


def test_a_waiting_caller_gets_the_slot_of_a_finished_or_failed_one() -> None:
    limit = ConcurrencyLimit(1, waiting=1, seconds=10)
    entered = threading.Event()

    def ask() -> None:
        with limit.slot():
            entered.set()

    thread = threading.Thread(target=ask)
    failing = limit.slot()
    failing.__enter__()
    thread.start()
    assert not entered.wait(0.1)
    failing.__exit__(ValueError, ValueError("a fault"), None)
    assert entered.wait(5)
    thread.join()


def test_a_caller_that_waits_in_vain_is_refused_and_frees_its_place() -> None:
    limit = ConcurrencyLimit(1, waiting=1, seconds=0.01)
    with limit.slot():
        for _ in range(3):
            with pytest.raises(Overloaded), limit.slot():
                pass
