"""A form that is sent twice, or two people at once, change tokens, keys and lists as one would."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from app.errors import Exists
from app.model import Product, Scope
from app.store import do_not_call, integrations, tokens
from app.store.database import Database
from app.store.schema import do_not_call as numbers
from app.store.schema import integration_keys
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


def test_numbers_that_are_added_twice_at_once_are_all_there(crowded: Database) -> None:
    one, two, three = (f"+1617555000{number}" for number in range(3))
    added = before_commit(crowded).run(
        crowded,
        lambda: do_not_call.add(crowded, [one, two], NOW),
        lambda: do_not_call.add(crowded, [one, three], NOW),
    )
    assert added == (2, 1)
    assert {row.phone_number for row in rows(crowded, numbers)} == {one, two, three}
