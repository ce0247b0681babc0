"""The journal stays whole while a callback is stored beside its renewal."""

from __future__ import annotations

from uuid import UUID

from app.store import journal
from app.store.database import Database
from app.store.schema import changes
from app.web.feed import Batch, Feed
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
    told: set[UUID] = set()

    def tell(batch: Batch, at: int) -> tuple[str, int]:
        told.update(key for _, key, _ in batch.events("all", lambda row: ""))
        return "", 0

    while len(told) < 2 and stream.next(2, tell):
        continue
    feed.leave(stream)
    assert told == {first, second}
