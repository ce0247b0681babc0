"""The journal stays whole while a callback is stored beside its renewal."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from app.errors import StoreUnavailable
from app.store import journal
from app.store.database import Database
from app.store.schema import changes
from app.web.feed import Batch, Feed, Rows, Stream
from tests.store.interleaving import behind_statement, rows
from tests.store.test_expected import LATER, NOON, post

FIRST_OF_RENEWAL = r"max\(changes|pg_snapshot_xmax"


def test_a_callback_beside_a_renewal_does_not_look_like_another_servers(crowded: Database) -> None:
    for number in range(5):
        post(crowded, LATER, f"r-{number}")
    gate = behind_statement(crowded, FIRST_OF_RENEWAL)
    is_renewed, _ = gate.run(crowded, lambda: journal.renew(crowded, NOON), lambda: post(crowded, LATER, "r-5"))
    assert not is_renewed
    assert len(rows(crowded, changes)) == 6


def test_a_live_stream_misses_no_callback_beside_a_renewal(crowded: Database) -> None:
    feed = Feed(crowded)
    stream = feed.join()
    first = post(crowded, LATER, "r-1")
    gate = behind_statement(crowded, FIRST_OF_RENEWAL)
    _, second = gate.run(crowded, lambda: journal.renew(crowded, NOON), lambda: post(crowded, LATER, "r-2"))
    told = _told(stream, 2)
    feed.leave(stream)
    assert set(told) == {first, second}


def test_a_live_stream_repeats_nothing_after_the_store_was_away_between_two_batches(
    crowded: Database, monkeypatch
) -> None:
    feed = Feed(crowded)
    stream = feed.join()
    reads: list[object] = []
    read = feed.matching

    def matching(*asked: Any) -> Rows:
        reads.append(asked)
        if len(reads) == 2:
            raise StoreUnavailable("gone for a moment")
        return read(*asked)

    monkeypatch.setattr(feed, "matching", matching)
    with feed._lock:  # the feed's own thread waits
        posted = [post(crowded, LATER, f"r-{number}") for number in range(2 * journal.PAGE_OUTCOMES)]
        with pytest.raises(StoreUnavailable):
            feed._advance()
    posted += [post(crowded, LATER, "later")]
    told = _told(stream, len(posted))
    feed.leave(stream)
    assert sorted(told) == sorted(posted)


def _told(stream: Stream, count: int) -> list[UUID]:
    """What the stream tells until it has told so much, or nothing comes."""
    told: list[UUID] = []

    def tell(batch: Batch, at: int) -> tuple[str, int]:
        told.extend(key for _, key, _ in batch.events("all", lambda row: ""))
        return "", 0

    while len(told) < count and stream.next(2, tell):
        continue
    return told
