"""A form that is sent twice, or two people at once, change tokens, keys and lists as one would."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Table

from app.errors import Exists
from app.model import HoldKind, Product, Scope
from app.store import do_not_call, integrations, legal_holds, saved_views, tokens
from app.store.database import Database
from app.store.schema import do_not_call as numbers
from app.store.schema import holds, integration_keys
from app.store.schema import integrations as integrations_table
from app.store.schema import saved_views as views_table
from app.store.schema import tokens as tokens_table
from tests.store.interleaving import before_commit, behind_statement, rows

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHOWN_AT = NOW + timedelta(minutes=1)
SENT_AT = SHOWN_AT + timedelta(seconds=1)


def test_a_form_that_is_sent_twice_rotates_a_token_once(crowded: Database) -> None:
    tokens.add_token(crowded, "t", Scope.READ, NOW)
    made: list[str] = []

    def rotate() -> None:
        with suppress(Exists):
            made.append(tokens.rotate_token(crowded, "t", SENT_AT, SHOWN_AT)[1])

    behind_statement(crowded, r"^SELECT tokens").run(crowded, rotate, rotate)
    assert len(made) == 1


def test_a_form_that_is_sent_twice_rotates_an_integrations_key_once(crowded: Database) -> None:
    integrations.add_integration(crowded, "i", Product.DEV, NOW)
    made: list[str] = []

    def rotate() -> None:
        with suppress(Exists):
            made.append(integrations.rotate_integration(crowded, "i", timedelta(), SENT_AT, SHOWN_AT)[1])

    behind_statement(crowded, r"max\(integration_keys").run(crowded, rotate, rotate)
    assert len(made) == 1


def test_after_two_rotations_at_once_one_key_has_no_end(crowded: Database) -> None:
    integrations.add_integration(crowded, "i", Product.DEV, NOW)

    def rotate(seconds: int) -> None:
        integrations.rotate_integration(crowded, "i", timedelta(), NOW + timedelta(seconds=seconds))

    gate = behind_statement(crowded, r"^UPDATE integration_keys")
    gate.run(crowded, lambda: rotate(1), lambda: rotate(2))
    assert [key.expires_at for key in rows(crowded, integration_keys)].count(None) == 1


@pytest.mark.parametrize(
    "add, table",
    [
        (lambda store: tokens.add_token(store, "t", Scope.READ, NOW), tokens_table),
        (lambda store: integrations.add_integration(store, "i", Product.DEV, NOW), integrations_table),
        (lambda store: saved_views.add_view(store, "v", "status=failed", "t", NOW), views_table),
    ],
    ids=["token", "integration", "view"],
)
def test_of_two_who_take_a_name_at_once_one_hears_that_it_is_taken(
    crowded: Database, add: Callable[[Database], None], table: Table
) -> None:
    taken: list[str] = []

    def take() -> None:
        try:
            add(crowded)
        except Exists as error:
            taken.append(str(error))

    before = len(rows(crowded, table))
    behind_statement(crowded, rf"^INSERT INTO {table.name} ").run(crowded, take, take)
    assert len(rows(crowded, table)) == before + 1
    assert len(taken) == 1
    assert "is there already" in taken[0]


def test_two_who_hold_the_same_at_once_both_succeed(crowded: Database) -> None:
    integrations.add_integration(crowded, "i", Product.DEV, NOW)

    def hold(reason: str) -> None:
        legal_holds.add_hold(crowded, HoldKind.INTEGRATION, "i", reason, NOW)

    before_commit(crowded).run(crowded, lambda: hold("first"), lambda: hold("second"))
    assert [row.reason for row in rows(crowded, holds) if row.subject == "i"] == ["second"]


def test_numbers_that_are_added_twice_at_once_are_all_there(crowded: Database) -> None:
    one, two, three = (f"+1617555000{number}" for number in range(3))
    added = before_commit(crowded).run(
        crowded,
        lambda: do_not_call.add(crowded, [one, two], NOW),
        lambda: do_not_call.add(crowded, [one, three], NOW),
    )
    assert added == (2, 1)
    assert {row.phone_number for row in rows(crowded, numbers)} == {one, two, three}
