"""Who works beside callbacks gives way, and only then."""

from __future__ import annotations

import pytest

from app import pace


@pytest.mark.parametrize("waited, rests", [(0.0, []), (0.05, []), (0.5, [9.0 * 0.1]), (30.0, [9.0 * 0.1])])
def test_it_rests_as_long_as_others_want_the_processors(monkeypatch, waited, rests) -> None:
    clock, waits, slept = iter([0.0, 0.1, 0.1]), iter([0.0, waited * 0.1, 0.0]), []
    monkeypatch.setattr(pace.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(pace, "_waited_seconds", lambda: next(waits))
    monkeypatch.setattr(pace.time, "sleep", slept.append)
    pace.Pace().rest()
    assert slept == pytest.approx(rests)


def test_where_the_system_does_not_tell_it_never_rests(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(pace, "_SCHEDULER", tmp_path / "missing")
    monkeypatch.setattr(pace.time, "sleep", lambda seconds: pytest.fail("rested"))
    pace.Pace().rest()
