"""Senders and their keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.errors import Disabled, NotFound
from app.model import hashed
from app.store.database import Database
from app.store.integrations import (
    active_keys,
    add_integration,
    disable_integration,
    enable_integration,
    rotate_integration,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def test_a_disabled_integration_opens_again_once_it_is_enabled(database: Database) -> None:
    key = add_integration(database, "reminders", None, NOW)
    disable_integration(database, "reminders", NOW)
    assert hashed(key).hex() not in active_keys(database, LATER)
    enable_integration(database, "reminders")
    assert active_keys(database, LATER)[hashed(key).hex()].integration.name == "reminders"


def test_a_disabled_integration_gets_no_new_url_and_its_old_ones_keep_their_time(database: Database) -> None:
    key = add_integration(database, "reminders", None, NOW)
    disable_integration(database, "reminders", NOW)
    with pytest.raises(Disabled, match="integration enable reminders"):
        rotate_integration(database, "reminders", timedelta(), NOW)
    enable_integration(database, "reminders")
    assert active_keys(database, LATER)[hashed(key).hex()].integration.name == "reminders"


def test_what_is_not_there_cannot_be_enabled(database: Database) -> None:
    with pytest.raises(NotFound, match="nobody"):
        enable_integration(database, "nobody")
