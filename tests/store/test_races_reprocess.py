"""Stored deliveries are read again while callbacks arrive and records are removed."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import pytest

from app.interpret import interpret
from app.model import Product
from app.store import erasure, readings, retention
from app.store import reprocess as reprocessing
from app.store.database import Database
from app.store.query.question import Question, Records
from app.store.readings import save
from app.store.reprocess import reprocess, reprocess_one
from app.store.schema import deliveries, outcomes
from tests.store.interleaving import (
    before,
    behind,
    behind_statement,
    delivery,
    not_understood,
    received,
    rows,
)
from tests.store.test_expected import EARLIER, LATER, NOON, post

ALL = Question(records=Records.DELIVERIES)
LAST = b'{"status":"completed","attempts":"3","last_attempt_timestamp":"1772974900"}'
WITH_NUMBER = b'{"status":"completed","phone_number":"6175551234","duration":"3","queued_timestamp":"1772971200"}'
LOCK = r"^UPDATE outcomes SET deliveries"


@pytest.mark.parametrize("how", ["erase", "prune"])
def test_what_is_removed_while_it_is_read_again_does_not_come_back(
    crowded: Database, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    key = post(crowded, WITH_NUMBER, None, product=Product.FUSE)
    assert key

    def remove() -> None:
        if how == "erase":
            erasure.remove(crowded, erasure.Found(outcomes={key}))
        else:
            found, _ = retention.find(crowded, Records.OUTCOMES, NOON + timedelta(days=400), None)
            retention.remove(crowded, Records.OUTCOMES, found, NOON + timedelta(days=400))

    gate = before(monkeypatch, reprocessing, "_lock")
    gate.run(crowded, lambda: list(reprocess(crowded, interpret, ALL)), remove)
    assert rows(crowded, outcomes) == []
    assert rows(crowded, deliveries) == []


def test_an_outcome_that_a_callback_makes_meanwhile_counts_all_its_deliveries(
    crowded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = delivery(EARLIER, "r-1")
    not_understood(crowded, first)
    making = before(monkeypatch, reprocessing, "insert_rows")
    folding = before(monkeypatch, reprocessing, "_fold")
    folding.run(
        crowded,
        lambda: making.run(
            crowded, lambda: reprocess_one(crowded, interpret, first.id), lambda: post(crowded, LATER, "r-1")
        ),
        lambda: post(crowded, LAST, "r-1"),
    )
    [made] = rows(crowded, outcomes)
    assert (made.deliveries, made.attempts) == (3, 3)


def test_of_one_body_that_is_read_again_and_received_both_outcomes_are_marked(
    crowded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = delivery(LATER)
    not_understood(crowded, first)
    gate = behind(monkeypatch, reprocessing, "_recount_bodies")
    gate.run(crowded, lambda: reprocess_one(crowded, interpret, first.id), lambda: post(crowded, LATER, None))
    assert [made.possible_duplicate for made in rows(crowded, outcomes)] == [True, True]


def test_outcomes_that_are_connected_are_locked_like_a_group_of_callbacks(crowded: Database) -> None:
    """An older program took two calls for one."""
    low, high = sorted(["r-0", "r-1"], key=_outcome_id)
    first, mistaken = delivery(EARLIER, high), interpret(delivery(LATER, low))
    assert mistaken.outcome
    received(crowded, first)
    save(crowded, [mistaken._replace(outcome=mistaken.outcome._replace(id=_outcome_id(high), digest="0" * 64))])
    post(crowded, EARLIER, low)
    behind_statement(crowded, LOCK).run(
        crowded,
        lambda: reprocess_one(crowded, interpret, first.id),
        lambda: received(crowded, delivery(LAST, low), delivery(LAST, high)),
    )
    assert {made.id: made.deliveries for made in rows(crowded, outcomes)} == {
        _outcome_id(low): 3,
        _outcome_id(high): 2,
    }


def _outcome_id(reference: str) -> UUID:
    made = interpret(delivery(LATER, reference)).outcome
    assert made
    return made.id


def test_outcomes_without_identity_are_locked_like_a_group_of_callbacks(crowded: Database) -> None:
    """Callbacks mark possible duplicates in the order of their bodies' digests: here, the higher id first."""
    low_body, high_body = sorted([EARLIER, LATER], key=lambda body: sha256(body).digest())
    lower, higher = interpret(delivery(high_body)), interpret(delivery(low_body))
    while lower.outcome.id > higher.outcome.id:
        lower = interpret(delivery(high_body))
    for one in (higher, lower):
        save(crowded, [one])
    behind_statement(crowded, LOCK).run(
        crowded,
        lambda: list(reprocess(crowded, interpret, ALL)),
        lambda: received(crowded, delivery(EARLIER), delivery(LATER)),
    )
    assert [made.possible_duplicate for made in rows(crowded, outcomes)] == [True] * 4


def test_a_group_that_is_stored_twice_at_once_in_another_order_counts_once(
    crowded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a transaction goes on that its client has given up, and the spool brings the same deliveries."""
    group = [interpret(delivery(LATER if number % 2 else EARLIER, f"r-{number % 3}")) for number in range(6)]
    group += [interpret(delivery(LATER)) for _ in range(2)]
    gate = before(monkeypatch, readings, "_correct_verdicts")
    gate.run(crowded, lambda: save(crowded, group), lambda: save(crowded, group[::-1]))
    save(crowded, group[::-1])
    made = rows(crowded, outcomes)
    assert sum(one.deliveries for one in made) == len(rows(crowded, deliveries)) == 8
    assert [one.possible_duplicate for one in made if one.identity == "none"] == [True, True]
