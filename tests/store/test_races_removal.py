"""Records are removed while they are put on hold, or have become another's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import ModuleType
from uuid import UUID

import pytest

from app.errors import NotFound
from app.interpret import interpret
from app.model import HoldKind
from app.store import erasure, retention
from app.store.database import Database
from app.store.legal_holds import add_hold
from app.store.query.question import Question, Records
from app.store.reprocess import reprocess
from app.store.schema import deliveries, holds, outcomes
from tests.store.interleaving import before, delivery, not_understood, rows
from tests.store.test_expected import LATER, NOON, post

TOMORROW = NOON + timedelta(days=1)


def prune(database: Database, key: UUID) -> None:
    found, _ = retention.find(database, Records.OUTCOMES, TOMORROW, None)
    assert [one.id for one in found] == [key]
    retention.remove(database, Records.OUTCOMES, found, TOMORROW)


def erase(database: Database, key: UUID) -> None:
    erasure.remove(database, erasure.Found(outcomes={key}))


@pytest.mark.parametrize("module, remove", [(retention, prune), (erasure, erase)])
def test_a_call_that_is_removed_is_not_held_and_a_held_one_not_removed(
    crowded: Database, monkeypatch: pytest.MonkeyPatch, module: ModuleType, remove: Callable[[Database, UUID], None]
) -> None:
    key = post(crowded, LATER)

    def hold() -> None:
        with suppress(NotFound):
            add_hold(crowded, HoldKind.CALL, str(key), "court", NOON)

    gate = before(monkeypatch, module, "remove_outcomes")
    gate.run(crowded, lambda: remove(crowded, key), hold)
    assert len(rows(crowded, outcomes)) == len(rows(crowded, holds))


def test_a_delivery_that_has_become_a_held_calls_since_it_was_found_is_not_pruned(crowded: Database) -> None:
    not_understood(crowded, delivery(LATER, "r-1"))
    found, _ = retention.find(crowded, Records.DELIVERIES, TOMORROW, None)
    assert len(found) == 1
    list(reprocess(crowded, interpret, Question(records=Records.DELIVERIES)))
    [made] = rows(crowded, outcomes)
    add_hold(crowded, HoldKind.CALL, str(made.id), "court", NOON)
    retention.remove(crowded, Records.DELIVERIES, found, TOMORROW)
    assert len(rows(crowded, deliveries)) == 1
