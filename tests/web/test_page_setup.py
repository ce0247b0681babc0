"""Integrations and tokens are made, shown once and taken away on a page, by who may; and the audit log says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import quote, urlsplit

import pytest
from flask import Flask

from app.config import from_environment
from app.model import Scope
from app.store import integrations, migrating, tokens
from app.store.database import Database
from tests.conftest import wait_until
from tests.web.conftest import running
from tests.web.pages import Reader, section
from tests.web.test_auditing import entries

PUBLIC = "https://results.example.com"
RESULT = "phone_number=16175551234&call_id=1&result=Completed&callee_type=voice"
FORMS = {
    "/setup/integrations": {"name": "refused", "product": "dev"},
    "/setup/integrations/rotate": {"name": "there", "grace": "0"},
    "/setup/integrations/disable": {"name": "there"},
    "/setup/integrations/enable": {"name": "there"},
    "/setup/tokens": {"name": "refused", "scope": "admin"},
    "/setup/tokens/rotate": {"name": "reader-read", "shown_at": "2999-01-01"},
    "/setup/tokens/revoke": {"name": "reader-read"},
}


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path_factory.mktemp('setup') / 'outcomes.db'}")
    migrating.migrate(made)
    integrations.add_integration(made, "there", None, datetime.now(UTC))
    yield made
    made.close()


@pytest.fixture(scope="module")
def app(database, tmp_path_factory) -> Iterator[Flask]:
    url, spool = database.engine.url.render_as_string(), str(tmp_path_factory.mktemp("spool"))
    environment = {"PLUM_DATABASE_URL": url, "PLUM_SPOOL_DIR": spool, "PLUM_PUBLIC_URL": PUBLIC}
    with running(from_environment(environment)) as made:
        yield made


@pytest.fixture(scope="module")
def admin(app, database) -> Reader:
    return Reader(app, database, Scope.ADMIN)


@pytest.fixture(scope="module")
def reader(app, database) -> Reader:
    return Reader(app, database, Scope.READ)


def made(admin: Reader, path: str, **fields: str) -> str:
    answer = admin.send(path, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.text


def shown_once(page: str, place: str) -> str:
    return unescape(re.search(rf'<input id="{place}" value="([^"]+)" readonly', page)[1])


def waits(page: str) -> str:
    return unescape(re.search(r'data-waits="([^"]+)"', page)[1])


def asked(database: Database, what: str) -> list[list[list[str]]]:
    return [entry["asked"] for entry in entries(database) if entry["what"] == what]


def test_a_new_integration_shows_its_addresses_once_and_they_work(app, admin, database) -> None:
    page = made(admin, "/setup/integrations", name="reminders", product="dev")
    result_url, start_url = shown_once(page, "result-url"), shown_once(page, "start-url")
    assert result_url.startswith(f"{PUBLIC}/result/")
    key = result_url.removeprefix(f"{PUBLIC}/result/")
    assert start_url == f"{PUBLIC}/start/{key}"
    assert app.test_client().post(urlsplit(result_url).path, data=RESULT).data == b"completed"
    row = section(admin.open("/setup"), "integrations")
    assert re.search(r" reminders dev \d+ \w+ \d{4} [\d:]+ open anywhere none default ", row)
    assert key not in admin.open("/setup") + str(entries(database))
    assert [["name", "reminders"], ["product", "dev"]] in asked(database, "setup.add_integration")


def test_only_dev_gets_a_start_url(admin) -> None:
    assert "start-url" not in made(admin, "/setup/integrations", name="of-fuse", product="fuse")
    assert "start-url" in made(admin, "/setup/integrations", name="of-any", product="auto")


def test_the_first_probe_and_the_first_result_are_seen(app, admin, reader) -> None:
    page = made(admin, "/setup/integrations", name="awaited", product="auto")
    path, seen = urlsplit(shown_once(page, "result-url")).path, waits(page)
    assert reader.client.get(seen).json == {"probed": False, "result": None}
    other = urlsplit(shown_once(made(admin, "/setup/integrations", name="other", product="auto"), "result-url")).path
    assert app.test_client().get(other).data == app.test_client().post(other, data=RESULT).data == b"completed"
    assert reader.client.get(seen).json == {"probed": False, "result": None}
    app.test_client().get(path)
    assert reader.client.get(seen).json == {"probed": True, "result": None}
    delivery = app.test_client().post(path, data=RESULT).headers["X-Delivery-Id"]
    told = reader.client.get(seen).json
    assert told["result"]["id"] == delivery
    assert reader.client.get(f"/api/v1/outcomes/{told['result']['outcome_id']}").json["integration"] == "awaited"
    later = quote((datetime.now(UTC) + timedelta(seconds=1)).isoformat())
    path = "/setup/integrations/awaited/seen?since="
    assert reader.client.get(path + later).json == {"probed": False, "result": None}
    for wrong in ("yesterday", "", "9999-12-31T23:59:59-23:00"):
        assert reader.client.get(path + wrong).status_code == 422
    assert app.test_client().get(path + later).status_code == 303  # to sign in


def test_a_result_that_is_not_understood_is_seen_too(app, admin) -> None:
    page = made(admin, "/setup/integrations", name="misled", product="auto")
    app.test_client().post(urlsplit(shown_once(page, "result-url")).path, data="nothing=known")
    assert admin.client.get(waits(page)).json["result"]["outcome_id"] is None


@pytest.mark.parametrize(
    ("name", "told", "status"),
    [
        ("there", "an integration named there is there already", 409),
        ("", "use 1 to 64 letters", 422),
        ("<script>alert(1)</script>", "use 1 to 64 letters", 422),
        ("x" * 65, "use 1 to 64 letters", 422),
        ("x" * 100_000, "use 1 to 64 letters", 422),
    ],
)
def test_an_invalid_name_is_reported_next_to_the_form(admin, name, told, status) -> None:
    answer = admin.send("/setup/integrations", name=name, product="auto")
    assert answer.status_code == status
    assert told in section(answer.text, "integrations")
    assert "<script>alert" not in answer.text
    assert len(answer.data) < 100_000


def test_values_that_no_form_offers_are_refused(admin) -> None:
    assert admin.send("/setup/integrations", name="odd", product="fax").status_code == 422
    assert admin.send("/setup/integrations/rotate", name="there", grace="-1", shown_at=shown_at()).status_code == 422
    assert admin.send("/setup/integrations/rotate", name="there", grace="0").status_code == 422
    assert admin.send("/setup/integrations/rotate", name="nobody", grace="0", shown_at=shown_at()).status_code == 404
    assert admin.send("/setup/integrations/disable", name="nobody").status_code == 404
    assert admin.send("/setup/tokens", name="odd", scope="root").status_code == 422
    assert admin.send("/setup/tokens/revoke", name="nobody").status_code == 404


def shown_at() -> str:
    """When the page of a form was shown, if that is now."""
    return datetime.now(UTC).isoformat()


def test_a_new_address_takes_the_place_of_the_old_one(app, admin) -> None:
    def path(**fields: str) -> str:
        return urlsplit(shown_once(made(admin, **fields), "result-url")).path

    def status(path: str) -> int:
        return app.test_client().get(path).status_code

    first = path(path="/setup/integrations", name="moved", product="auto")
    second = path(path="/setup/integrations/rotate", name="moved", grace="7", shown_at=(at_first := shown_at()))
    assert [status(first), status(second)] == [200, 200]
    again = admin.send("/setup/integrations/rotate", name="moved", grace="0", shown_at=at_first)
    assert again.status_code == 409
    assert "moved was given a new address at " in section(again.text, "integrations")
    third = path(path="/setup/integrations/rotate", name="moved", grace="0", shown_at=shown_at())
    wait_until(lambda: [status(one) for one in (first, second, third)] == [404, 404, 200], 10)


def test_an_integration_is_disabled_and_enabled(app, admin, database) -> None:
    path = urlsplit(shown_once(made(admin, "/setup/integrations", name="paused", product="auto"), "result-url")).path
    assert admin.send("/setup/integrations/disable", name="paused").status_code == 303
    wait_until(lambda: app.test_client().get(path).status_code == 404, 10)
    assert " paused auto " in (told := section(admin.open("/setup"), "integrations"))
    assert "disabled since" in told
    before = integrations.list_integrations(database)
    assert admin.send("/setup/integrations/disable", name="paused").status_code == 303
    assert integrations.list_integrations(database) == before
    refused = admin.send("/setup/integrations/rotate", name="paused", grace="0", shown_at=shown_at())
    assert refused.status_code == 409
    assert "paused is disabled" in section(refused.text, "integrations")
    assert admin.send("/setup/integrations/enable", name="paused").status_code == 303
    wait_until(lambda: app.test_client().get(path).status_code == 200, 10)
    assert [["name", "paused"]] in asked(database, "setup.disable_integration")


def test_a_new_token_is_shown_once_and_permits_what_its_scope_says(app, admin, database) -> None:
    secret = shown_once(made(admin, "/setup/tokens", name="dashboard", scope="read"), "secret")
    headers = {"Authorization": f"Bearer {secret}"}
    assert app.test_client().get("/api/v1/outcomes", headers=headers).status_code == 200
    assert app.test_client().get("/api/v1/audit", headers=headers).status_code == 403
    assert secret not in admin.open("/setup") + str(entries(database))
    assert admin.send("/setup/tokens", name="dashboard", scope="read").status_code == 409
    assert admin.send("/setup/tokens/revoke", name="dashboard").status_code == 303
    revoked = tokens.list_tokens(database)
    assert admin.send("/setup/tokens/revoke", name="dashboard").status_code == 303
    assert [one["revoked_at"] for one in tokens.list_tokens(database)] == [one["revoked_at"] for one in revoked]
    again = admin.send("/setup/tokens", name="dashboard", scope="read")
    assert "a token named dashboard is there already (a revoked one keeps its name" in section(again.text, "tokens")
    assert re.search(r" dashboard read [^–]+ revoked ", section(admin.open("/setup"), "tokens"))
    wait_until(lambda: app.test_client().get("/api/v1/outcomes", headers=headers).status_code == 401, 10)


def test_a_rotated_token_has_another_secret_and_the_old_one_opens_nothing(app, admin) -> None:
    def status(secret: str) -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        return app.test_client().get("/api/v1/outcomes", headers=headers).status_code

    first = shown_once(made(admin, "/setup/tokens", name="turned", scope="read"), "secret")
    assert status(first) == 200
    at_first = shown_at()
    second = shown_once(made(admin, "/setup/tokens/rotate", name="turned", shown_at=at_first), "secret")
    assert status(second) == 200
    wait_until(lambda: status(first) == 401, 10)
    assert admin.send("/setup/tokens/rotate", name="turned", shown_at=at_first).status_code == 409
    assert admin.send("/setup/tokens/rotate", name="turned").status_code == 422
    assert admin.send("/setup/tokens/rotate", name="nobody", shown_at=shown_at()).status_code == 404
    admin.send("/setup/tokens/revoke", name="turned")
    assert admin.send("/setup/tokens/rotate", name="turned", shown_at=shown_at()).status_code == 404


def test_revoking_ones_own_token_needs_a_confirmation(app, database) -> None:
    own = Reader(app, database, Scope.ADMIN, "leaving")
    refused = own.send("/setup/tokens/revoke", name="leaving")
    assert refused.status_code == 403
    assert "your own" in section(refused.text, "tokens")
    left = own.send("/setup/tokens/revoke", name="leaving", sure="on")
    assert (left.status_code, left.location) == (303, "/sign-in")
    assert own.client.get("/setup").status_code == 303
    assert [row["name"] for row in tokens.list_tokens(database) if row["revoked_at"]].count("leaving") == 1


def test_with_read_integrations_are_shown_and_nothing_changes(reader, database) -> None:
    page = reader.open("/setup")
    assert " there auto " in section(page, "integrations")
    assert "reader-admin" not in page
    assert 'action="/setup' not in page
    before = integrations.list_integrations(database), [row["revoked_at"] for row in tokens.list_tokens(database)]
    for path, fields in FORMS.items():
        assert reader.send(path, **fields).status_code == 403, path
    after = integrations.list_integrations(database), [row["revoked_at"] for row in tokens.list_tokens(database)]
    assert before == after


def test_a_form_of_another_site_is_refused(admin, database) -> None:
    before = integrations.list_integrations(database), len(tokens.list_tokens(database))
    for path, fields in FORMS.items():
        assert admin.send(path, **fields, csrf="guessed").status_code == 403, path
        origin = {"Origin": "https://elsewhere.example"}
        assert admin.client.post(path, data=fields | {"csrf": admin.csrf}, headers=origin).status_code == 403
    assert before == (integrations.list_integrations(database), len(tokens.list_tokens(database)))
