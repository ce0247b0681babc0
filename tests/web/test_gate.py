"""Questions beyond what runs well wait a moment, and beyond that are refused at once."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from app.web.errors import Overloaded
from app.web.gate import Gate


def test_so_many_run_and_others_are_refused() -> None:
    gate = Gate(2, waiting=0)
    with ExitStack() as stack:
        stack.enter_context(gate.passed())
        stack.enter_context(gate.passed())
        with pytest.raises(Overloaded), gate.passed():
            pass
    with gate.passed():
        pass


def test_who_waits_comes_in_when_another_is_done_even_by_failing() -> None:
    gate = Gate(1, waiting=1, seconds=10)
    entered = threading.Event()

    def ask() -> None:
        with gate.passed():
            entered.set()

    thread = threading.Thread(target=ask)
    failing = gate.passed()
    failing.__enter__()
    thread.start()
    assert not entered.wait(0.1)
    failing.__exit__(ValueError, ValueError("a fault"), None)
    assert entered.wait(5)
    thread.join()


def test_who_waits_in_vain_is_refused_and_leaves_its_place() -> None:
    gate = Gate(1, waiting=1, seconds=0.01)
    with gate.passed():
        for _ in range(3):
            with pytest.raises(Overloaded), gate.passed():
                pass
