"""Reading stored deliveries again: over HTTP for one, from the command line for all."""

from __future__ import annotations

import json
from itertools import count

import pytest

from tests.system.conftest import FORM, Sender, Service, dev_body


@pytest.fixture
def stored(sender: Sender) -> dict:
    sender.service.request("POST", sender.path, dev_body(call_id="1", attempts="1"), {"Content-Type": FORM})
    return sender.deliveries()[0]


NAMES = count()


def token(service: Service, scope: str) -> str:
    return service.json("token", "add", f"{scope}-{next(NAMES)}", "--scope", scope)["token"]


def spoil(service: Service, delivery: dict) -> None:
    """As if an older normaliser had understood less."""
    with service.sql() as connection:
        connection.execute(
            f"UPDATE outcomes SET attempts = NULL, normaliser = '0' WHERE integration = '{delivery['integration']}'"
        )
        connection.execute(f"UPDATE deliveries SET normaliser = '0' WHERE integration = '{delivery['integration']}'")
        connection.commit()


def test_an_admin_reprocesses_one_delivery(service: Service, sender: Sender, stored: dict) -> None:
    spoil(service, stored)
    path = f"/api/v1/deliveries/{stored['id']}/reprocess"
    assert sender.outcomes()[0]["attempts"] is None
    admin = token(service, "admin")
    answer = service.request("POST", path, b"", {"Authorization": f"Bearer {admin}"})
    assert answer.status == 200
    assert answer.json() == stored
    assert sender.outcomes()[0]["attempts"] == 1
    revealing = {"Authorization": f"Bearer {token(service, 'reveal')}"}
    service.request("POST", path, b"", revealing).assert_problem(403)
    service.request("POST", path, b"").assert_problem(401)
    missing = "/api/v1/deliveries/00000000-0000-0000-0000-000000000000/reprocess"
    service.request("POST", missing, b"", {"Authorization": f"Bearer {admin}"}).assert_problem(404)


def test_all_deliveries_are_read_again_from_the_command_line(service: Service, sender: Sender, stored: dict) -> None:
    spoil(service, stored)
    chosen = f"integration={stored['integration']}"
    dry = json.loads(service.ok("reprocess", "--dry-run", "--json", chosen))
    assert dry["fields"] == {"attempts": 1}
    assert sender.outcomes()[0]["attempts"] is None
    assert json.loads(service.ok("reprocess", "--json", chosen))["changed"] == 1
    assert sender.outcomes()[0]["attempts"] == 1
    assert json.loads(service.ok("reprocess", "--json", chosen))["changed"] == 0
