"""Senders and their keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from app.errors import Disabled, NotFound
from app.model import hashed
from app.store.database import Database
from app.store.integrations import (
    ActiveKeys,
    add_integration,
    disable_integration,
    enable_integration,
    get_script,
    list_integrations,
    rotate_integration,
    set_script,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def test_a_disabled_integration_opens_again_once_it_is_enabled(database: Database) -> None:
    key = add_integration(database, "reminders", None, NOW)
    disable_integration(database, "reminders", NOW)
    assert hashed(key).hex() not in ActiveKeys(database).look(LATER)
    enable_integration(database, "reminders")
    assert ActiveKeys(database).look(LATER)[hashed(key).hex()].integration.name == "reminders"


def test_a_disabled_integration_gets_no_new_url_and_its_old_ones_keep_their_time(database: Database) -> None:
    key = add_integration(database, "reminders", None, NOW)
    disable_integration(database, "reminders", NOW)
    with pytest.raises(Disabled, match="integration enable reminders"):
        rotate_integration(database, "reminders", timedelta(), NOW)
    enable_integration(database, "reminders")
    assert ActiveKeys(database).look(LATER)[hashed(key).hex()].integration.name == "reminders"


def test_an_unknown_integration_cannot_be_enabled(database: Database) -> None:
    with pytest.raises(NotFound, match="nobody"):
        enable_integration(database, "nobody")


def test_a_script_comes_with_every_key_until_it_is_removed(database: Database) -> None:
    keys = [add_integration(database, "reminders", None, NOW)]
    keys.append(rotate_integration(database, "reminders", timedelta(days=1), NOW)[1])
    other = add_integration(database, "other", None, NOW)
    looking = ActiveKeys(database)
    for script in (None, "<vxml>é🙂</vxml>", "<vxml>2</vxml>", "<vxml>é🙂</vxml>", None):
        set_script(database, "reminders", script)
        for _ in range(2):
            found = looking.look(LATER)
            assert [found[hashed(key).hex()].integration.script for key in keys] == [script, script]
            assert found[hashed(other).hex()].integration.script is None
        assert get_script(database, "reminders") == script
        assert {row["name"]: row["script"] for row in list_integrations(database)} == {
            "other": "default",
            "reminders": "own" if script else "default",
        }


def test_each_script_is_read_once(database: Database) -> None:
    add_integration(database, "reminders", None, NOW)
    looking = ActiveKeys(database)
    set_script(database, "reminders", "<vxml/>")
    assert _scripts_read(database, looking) == ["<vxml/>"]
    assert _scripts_read(database, looking) == [None]
    set_script(database, "reminders", "<vxml>2</vxml>")
    assert _scripts_read(database, looking) == ["<vxml>2</vxml>"]


def _scripts_read(database: Database, looking: ActiveKeys) -> list[str | None]:
    """What one look brings from the store."""
    asked: list[tuple[str, object]] = []

    def note(connection, cursor, statement, parameters, context, many) -> None:
        asked.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    looking.look(LATER)
    event.remove(database.engine, "before_cursor_execute", note)
    [(statement, parameters)] = [one for one in asked if "integration_keys" in one[0]]
    with database.reading() as connection:
        return [row.script for row in connection.exec_driver_sql(statement, parameters)]


@pytest.mark.parametrize("act", [get_script, lambda database, name: set_script(database, name, None)])
def test_an_unknown_integration_has_no_script(database: Database, act) -> None:
    with pytest.raises(NotFound, match="nobody"):
        act(database, "nobody")
