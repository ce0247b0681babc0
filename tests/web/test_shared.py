"""What anybody may ask for is made once for all who ask at about the same time."""

from __future__ import annotations

import threading
import time
from itertools import count

import pytest

from app.web.shared import Shared


def test_who_asks_later_hears_what_is_made_later_and_after_a_pause() -> None:
    numbers = count(1)
    shared = Shared(lambda: next(numbers), 0.05)
    began = time.monotonic()
    assert [shared(), shared(), shared()] == [1, 2, 3]
    assert time.monotonic() - began >= 0.1


def test_those_who_ask_while_it_is_made_wait_for_it() -> None:
    made: list[int] = []

    def make() -> str:
        made.append(1)
        time.sleep(0.05)
        return "made"

    shared = Shared(make, 0.05)
    heard: list[str] = []
    threads = [threading.Thread(target=lambda: heard.append(shared())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == ["made"] * 20
    assert len(made) <= 2


def test_a_failure_is_heard_and_the_next_tries_again() -> None:
    outcomes = iter([ValueError("away"), "there"])

    def make() -> str:
        outcome = next(outcomes)
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    shared = Shared(make, 0.05)
    with pytest.raises(ValueError, match="away"):
        shared()
    assert shared() == "there"
