"""What anybody may ask for is made once for all who ask at about the same time."""

from __future__ import annotations

import threading
import time
from itertools import count

import pytest

from app.web.caching import Coalesced, RefreshedInBackground
from tests.conftest import wait_until


def test_a_later_caller_gets_a_later_value_after_a_pause() -> None:
    numbers = count(1)
    shared = Coalesced(lambda: next(numbers), 0.05)
    began = time.monotonic()
    assert [shared(), shared(), shared()] == [1, 2, 3]
    assert time.monotonic() - began >= 0.1


def test_callers_during_a_computation_share_its_value() -> None:
    made: list[int] = []

    def make() -> str:
        made.append(1)
        time.sleep(0.05)
        return "made"

    shared = Coalesced(make, 0.05)
    heard: list[str] = []
    threads = [threading.Thread(target=lambda: heard.append(shared())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == ["made"] * 20
    assert len(made) <= 2


def test_a_failure_is_raised_and_the_next_call_tries_again() -> None:
    outcomes = iter([ValueError("away"), "there"])

    def make() -> str:
        outcome = next(outcomes)
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    shared = Coalesced(make, 0.05)
    with pytest.raises(ValueError, match="away"):
        shared()
    assert shared() == "there"


# --- kept


def test_a_quickly_computed_value_is_never_old() -> None:
    numbers = count(1)
    kept = RefreshedInBackground(lambda: next(numbers))
    assert kept() == 1
    wait_until(lambda: kept() > 1)


def test_a_slow_value_is_the_last_one_while_the_next_is_computed() -> None:
    numbers, goes_on = count(1), threading.Event()

    def make() -> int:
        goes_on.wait()
        return next(numbers)

    kept = RefreshedInBackground(make)
    began = time.monotonic()
    assert [kept(), kept()] == [None, None]
    assert time.monotonic() - began < 1
    goes_on.set()
    wait_until(lambda: kept() == 1)
    kept._pauses_until = 0.0
    goes_on.clear()
    assert kept() == 1
    goes_on.set()
    wait_until(lambda: kept() == 2)


def test_a_failure_keeps_the_last_value_and_is_logged(caplog) -> None:
    told = iter([1])
    kept = RefreshedInBackground(lambda: next(told))
    assert kept() == 1
    wait_until(lambda: kept() == 1 and "a value for a page could not be computed" in caplog.text)
