"""The copy holds what the store holds, though the journal is pruned while the follower reads it."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.analytics.copy import Copy
from app.analytics.follower import Follower
from app.masking import masks
from app.store import journal
from app.store.database import Database
from app.store.schema import outcomes
from tests.store.interleaving import before, rows
from tests.store.test_expected import LATER, post


def test_after_the_journal_was_pruned_while_it_was_read_the_copy_is_filled_again(
    crowded: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with closing(Copy(tmp_path / "analytics.duckdb", "200MB", masks())) as copy:
        follower = Follower(crowded, copy)
        post(crowded, LATER, "r-0")
        follower.bring_to(journal.horizon(crowded))
        assert copy.count() == 1
        for reference in ("r-1", "r-2"):
            post(crowded, LATER, reference)
        gate = before(monkeypatch, journal, "page")
        gate.run(
            crowded,
            lambda: follower.bring_to(journal.horizon(crowded)),
            lambda: journal.prune(crowded, datetime.now(UTC) + timedelta(hours=1)),
        )
        for _ in range(3):
            follower.bring_to(journal.horizon(crowded))
        assert copy.count() == len(rows(crowded, outcomes)) == 3
