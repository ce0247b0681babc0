"""Who works beside callbacks gives way, and only then."""

from __future__ import annotations

import pytest

from app import pace


@pytest.mark.parametrize(
    "worked, waited, come, rests",
    [
        (0.1, 0.0, True, []),
        (0.1, 0.05, True, []),
        (0.1, 0.5, True, [9.0 * 0.1]),
        (0.1, 30.0, True, [9.0 * 0.1]),
        (0.1, 30.0, False, []),
        (0.001, 0.5, True, [0.25]),
        (9.0, 0.5, True, [2.0]),
    ],
)
def test_it_rests_while_callbacks_come_and_want_the_processors(monkeypatch, worked, waited, come, rests) -> None:
    clock, waits, slept = iter([0.0, worked, worked]), iter([0.0, waited * worked, 0.0]), []
    monkeypatch.setattr(pace.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(pace, "_waited_seconds", lambda: next(waits))
    monkeypatch.setattr(pace.time, "sleep", slept.append)
    pace.Pace(lambda: come).rest()
    assert slept == pytest.approx(rests)


def test_where_the_system_does_not_tell_it_never_rests(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(pace, "_SCHEDULER", tmp_path / "missing")
    monkeypatch.setattr(pace.time, "sleep", lambda seconds: pytest.fail("rested"))
    pace.Pace(lambda: True).rest()


@pytest.mark.parametrize(("turn", "expected"), [(-1, "awbwcw"), (60, "abc")])
def test_between_items_that_take_long_others_have_their_turn(monkeypatch, turn, expected) -> None:
    done = []
    monkeypatch.setattr(pace, "TURN_SECONDS", turn)
    monkeypatch.setattr(pace.time, "sleep", lambda seconds: done.append("w"))
    for item in pace.in_turns("abc"):
        done.append(item)
    assert "".join(done) == expected
