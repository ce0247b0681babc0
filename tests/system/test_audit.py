"""The audit log: who saw numbers or bodies, took data out, or changed something; last use of tokens; and drift."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.system.conftest import PHONE, Sender, Service, dev_body
from tests.system.test_live import Listener

ENGINE = "postgresql"


@pytest.fixture(scope="session")
def admin(service: Service) -> str:
    return service.new_token("auditor", "admin")


@pytest.fixture(scope="session")
def masked(service: Service) -> str:
    return service.new_token("audited-reader", "read")


def entries(service: Service, admin: str, **filters: object) -> list[dict[str, Any]]:
    return [entry for page in service.pages("audit", token=admin, **filters) for entry in page["data"]]


def last(service: Service, admin: str) -> dict[str, Any]:
    return service.get("audit", admin, limit=1).json()["data"][0]


def test_each_revealing_read_leaves_an_entry(service: Service, sender: Sender, admin: str) -> None:
    delivery = sender.assert_accepted(dev_body())
    outcome = sender.outcome()["id"]
    paths = {
        "outcomes": ("records.list_outcomes", None),
        f"outcomes/{outcome}": ("records.get_outcome", outcome),
        f"outcomes/{outcome}/deliveries": ("records.list_deliveries_of", outcome),
        "deliveries": ("records.list_deliveries", None),
        f"deliveries/{delivery}": ("records.get_delivery", delivery),
        f"deliveries/{delivery}/body": ("records.get_body", delivery),
        "facets?fields=phone_number": ("aggregates.show_facets", None),
        "redial.csv": ("downloads.export_redial_csv", None),
        "outcomes.ndjson": ("downloads.export_outcomes_ndjson", None),
        "deliveries.parquet": ("downloads.export_deliveries_parquet", None),
    }
    for path, (what, record) in paths.items():
        assert service.get(path).status == 200
        entry = last(service, admin)
        assert (entry["who"], entry["what"], entry["record_id"]) == ("reveal", what, record)
        assert (entry["remote_addr"], entry["status"]) == ("127.0.0.1", 200)


def test_masked_reads_leave_none_but_masked_exports_do(service: Service, admin: str, masked: str) -> None:
    for path in ("outcomes", "deliveries", "summary", "drift", "facets?fields=status", "outcomes.csv"):
        assert service.get(path, masked).status == 200
    [entry] = entries(service, admin, who="audited-reader")
    assert entry["what"] == "downloads.export_outcomes_csv"


def test_no_number_of_a_query_is_logged(service: Service, sender: Sender, admin: str) -> None:
    asked = {
        "phone_number": f"+{PHONE}",
        "phone_number_raw__prefix": PHONE[:7],
        "extra__contains": PHONE,
        "message_reference": PHONE,
        "batch__not": "spring",
        "sort": "phone_number",
        "limit": "1",
    }
    assert service.get("outcomes", **asked).status == 200
    hidden = dict.fromkeys(["phone_number", "phone_number_raw__prefix", "extra__contains"], "•••")
    assert dict(last(service, admin)["asked"]) == asked | hidden | {"message_reference": f"•••{PHONE[-4:]}"}
    for call in "12":
        sender.assert_accepted(dev_body(call_id=call))
    for _ in service.pages("outcomes", sort="phone_number", limit=1, integration=sender.name):
        pass
    assert dict(last(service, admin)["asked"])["cursor"] == "•••"


def test_one_entry_for_each_stream_that_is_opened(service: Service, sender: Sender, admin: str, masked: str) -> None:
    before = len(entries(service, admin, what="live.follow"))
    listeners = [Listener(service), Listener(service, token=masked)]
    sender.assert_accepted(dev_body())
    wait_until(lambda: all(one.events for one in listeners))
    for one in listeners:
        one.close()
    assert len(entries(service, admin, what="live.follow")) == before + 1


def test_a_change_is_logged_with_its_record(service: Service, sender: Sender, admin: str) -> None:
    delivery = sender.assert_accepted(dev_body())
    bearer = {"Authorization": f"Bearer {admin}"}
    assert service.request("POST", f"/api/v1/deliveries/{delivery}/reprocess", None, bearer).status == 200
    entry = last(service, admin)
    assert (entry["who"], entry["what"]) == ("auditor", "records.reprocess")
    assert (entry["record_id"], entry["status"]) == (delivery, None)


def test_only_admins_see_the_log_and_looking_leaves_no_entry(service: Service, admin: str, masked: str) -> None:
    assert service.get("outcomes").status == 200
    for token in (masked, service.token):
        service.get("audit", token).assert_problem(403)
    service.request("GET", "/api/v1/audit").assert_problem(401)
    assert last(service, admin) == last(service, admin)
    service.get("audit", admin, nobody=1).assert_problem(422, "nobody")


def test_the_log_is_listed_as_other_records_are(service: Service, admin: str) -> None:
    service.get("outcomes", limit=1)
    began = last(service, admin)["at"]  # the tests before this one left thousands of entries
    for _ in range(3):
        service.get("outcomes", limit=1)
    walked = entries(service, admin, limit=2, since=began)
    assert len(walked) == 4
    assert [entry["at"] for entry in walked] == sorted((entry["at"] for entry in walked), reverse=True)
    assert len({entry["id"] for entry in walked}) == len(walked)
    middle = walked[1]["at"]
    assert entries(service, admin, since=middle) == [entry for entry in walked if entry["at"] >= middle]
    found = service.get("audit", admin, what__prefix="records.", count="exact", fields="what", since=began).json()
    assert found["count"]["value"] == sum(entry["what"].startswith("records.") for entry in walked)


def test_commands_leave_entries_and_no_secret(service: Service, tmp_path: Path) -> None:
    made = service.json("integration", "add", "logged", "--product", "fuse")
    service.ok("integration", "rotate", "logged", "--grace", "1h")
    service.ok("integration", "disable", "logged")
    service.ok("integration", "enable", "logged")
    token = service.json("token", "add", "logged", "--scope", "read")["token"]
    service.ok("token", "revoke", "logged")
    lines = tmp_path / "lines"
    lines.write_text(json.dumps({"integration": "logged", "body": "result=Completed"}) + "\n")
    service.ok("import", str(lines))
    service.ok("reprocess", "integration=logged", "--dry-run")
    service.ok("reprocess", "integration=logged")
    service.ok("export", "--format", "csv", "--out", str(tmp_path / "a"))
    service.ok("export", "--format", "csv", "--out", str(tmp_path / "b"), "--reveal", f"phone_number=+{PHONE}")
    service.ok("outcomes", "--reveal", "limit=1")
    service.ok("summary", "--reveal", f"phone_number=+{PHONE}")
    found = service.json("audit", "limit=11")
    assert [(one["what"], one["asked"]) for one in found[::-1]] == [
        ("integration add", [["name", "logged"], ["product", "fuse"]]),
        ("integration rotate", [["name", "logged"], ["grace", "1:00:00"]]),
        ("integration disable", [["name", "logged"]]),
        ("integration enable", [["name", "logged"]]),
        ("token add", [["name", "logged"], ["scope", "read"]]),
        ("token revoke", [["name", "logged"]]),
        ("import", [["files", "1"]]),
        ("reprocess", [["integration", "logged"]]),
        ("export --reveal", [["records", "outcomes"], ["format", "csv"], ["phone_number", "•••"]]),
        ("outcomes --reveal", [["limit", "1"]]),
        ("summary --reveal", [["phone_number", "•••"]]),
    ]
    assert {one["who"].partition("(")[0] for one in found} == {"command line "}
    with service.sql() as connection:
        kept = str(connection.execute("SELECT * FROM audit").fetchall())
    assert not [secret for secret in (token, made["key"], PHONE) if secret in kept]


def test_the_address_is_the_clients_behind_a_trusted_proxy(new_database_url, tmp_path) -> None:
    service = Service(new_database_url(), tmp_path, {"PLUM_TRUSTED_PROXIES": "127.0.0.1"}, worker_count=1)
    service.prepare().start()
    try:
        headers = {"Authorization": f"Bearer {service.token}", "X-Forwarded-For": "1.2.3.4, 203.0.113.9"}
        assert service.request("GET", "/api/v1/outcomes", None, headers).status == 200
        assert last(service, service.admin_token)["remote_addr"] == "203.0.113.9"
    finally:
        service.stop()


# --- last use


def used(service: Service, name: str) -> str | None:
    [token] = [one for one in service.json("token", "list") if one["name"] == name]
    return token["last_used_at"]


def test_a_token_shows_when_it_was_last_used(service: Service) -> None:
    token = service.new_token("seldom-used", "read")
    assert used(service, "seldom-used") is None
    assert service.get("outcomes", token, limit=1).status == 200
    wait_until(lambda: used(service, "seldom-used"))
    first = used(service, "seldom-used")
    service.through_each_worker("GET", "/api/v1/outcomes?limit=1", Authorization=f"Bearer {token}")
    assert used(service, "seldom-used") == first


# --- drift


def test_drift_is_shown_soon(service: Service, masked: str) -> None:
    sender = service.sender("drifting")
    changed = dev_body(result=f"Odd {PHONE}", call_id="1") + b"&cost=3&contact=%2B16175551234"
    first = sender.assert_accepted(changed)
    sender.assert_accepted(changed, verdict="duplicate")

    def drift(token: str | None = None, **filters: object) -> list[dict[str, Any]]:
        return service.get("drift", token, integration="drifting", **filters).json()["data"]

    wait_until(lambda: len(drift()) == 3 and {one["count"] for one in drift()} == {1}, 30)
    told = {(one["kind"], one["field"], one["value"]) for one in drift()}
    assert told == {
        ("word", "status", f"Odd {PHONE}"),
        ("field", "cost", "string"),
        ("field", "contact", "string"),
    }
    assert {(one["product"], one["delivery_id"]) for one in drift()} == {("dev", first)}
    [word] = drift(masked, kind="word")
    assert word["value"] == f"Odd •••{PHONE[-4:]}"
    [received] = {one["received_at"] for one in sender.deliveries(id=first)}
    assert {one["first_at"] for one in drift()} == {received}
    assert len(drift(since=received)) == 3
    assert drift(since="2100-01-01") == drift(product="fuse") == []
    assert service.json("drift", "integration=drifting", "kind=word")[0]["value"] == f"Odd •••{PHONE[-4:]}"
    assert b"plum_drift_items " in service.request("GET", "/metrics").body
    service.get("drift", nobody=1).assert_problem(422, "nobody")
    service.get("drift", kind="odd").assert_problem(422, "kind")
