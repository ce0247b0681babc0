"""The page of one call: what happened when, what was received about it and what each delivery says."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, expect

from tests.system.browser import COOKIE, Analyst, analyst
from tests.system.conftest import FORM, PHONE, Sender, dev_body

ENGINE = "sqlite"

HOSTILE = "<script>document.title='taken'</script>\u202e" + "y" * 10_000


@pytest.fixture
def reader(browser: Browser, sender: Sender) -> Iterator[Analyst]:
    with analyst(browser, sender.service) as made:
        yield made


def opened(sender: Sender, path: str, token: str | None = None) -> str:
    held = {"Cookie": f"{COOKIE}={token or sender.service.token}"}
    answer = sender.service.request("GET", path, None, held)
    assert answer.status == 200, answer.body
    return answer.body.decode()


def pressed(sender: Sender, path: str, of: str, token: str | None = None) -> tuple[int, str, str | None]:
    """What the form answers that the page `of` has, and where it leads."""
    answer = sender.service.submit(path, of, token or sender.service.token)
    return answer.status, answer.body.decode(), answer.headers["Location"]


def test_a_timeline_shows_each_step_and_the_time_between(reader: Analyst, sender: Sender) -> None:
    events = [("queued", 1_700_000_000), ("dialing", 1_700_000_002), ("connected", 1_700_000_010)]
    told = [{"event": name, "timestamp": at} for name, at in events]
    told.append({"event": "disconnected", "timestamp": 1_700_000_075})
    body = {"phone_number": PHONE, "queued_timestamp": 1_700_000_000, "status": "Completed", "duration": 65}
    sender.post_json({"call_details": body | {"events": told}}, below="/call/appt-7").assert_completed()
    reader.open(f"/calls/{sender.outcome()['id']}?tz=America/New_York")
    steps = reader.page.locator(".timeline li").all_inner_texts()
    shown = [re.sub(r"\s+", " ", step) for step in steps]
    assert shown[:5] == [
        "14 Nov 2023 17:13:20 Queued at Plum",
        "+0 s 14 Nov 2023 17:13:20 queued",
        "+2 s 14 Nov 2023 17:13:22 dialing",
        "+8 s 14 Nov 2023 17:13:30 connected",
        "+1 min 5 s 14 Nov 2023 17:14:35 disconnected",
    ]
    assert "A delivery came: applied" in shown[-1]
    reader.assert_accessible()
    reader.assert_fits()


def test_every_delivery_is_shown_with_its_own_reading(reader: Analyst, sender: Sender) -> None:
    start = {
        "phone_number": PHONE,
        "call_id": "7",
        "message_reference": "a",
        "campaign_parameters": "",
        "call_parameters": "",
    }
    started = sender.service.request(
        "POST", f"/start/{sender.key}", urlencode(start).encode(), {"Content-Type": FORM}
    )
    assert started.status == 200
    newest = dev_body(call_id="7", message_reference="a", attempts="2")
    sender.assert_accepted(newest)
    sender.assert_accepted(newest + b"&", verdict="duplicate")
    sender.assert_accepted(
        dev_body(call_id="7", message_reference="a", attempts="1", result="Failed", callee_type="busy"),
        verdict="superseded",
    )
    reader.open(f"/calls/{sender.outcome()['id']}")
    shown = reader.page.locator("article.delivery")
    assert [badge.strip() for badge in shown.locator(".badge").all_inner_texts()] == [
        "Started",
        "Applied",
        "Duplicate",
        "Superseded",
    ]
    assert "Busy" in shown.nth(3).inner_text()
    assert "Answered" in shown.nth(1).inner_text()
    expect(reader.page.locator("h1")).to_contain_text("Answered")
    expect(reader.page.get_by_text("Connected: Plum asked for its script")).to_have_count(1)
    reader.assert_accessible()


def test_numbers_and_bodies_are_hidden_until_revealed_and_the_log_says_so(sender: Sender, admin_token: str) -> None:
    delivery = sender.assert_accepted(dev_body())
    call = sender.outcome()["id"]
    path = f"/calls/{call}"
    assert PHONE[4:] not in opened(sender, path)
    status, page, _ = pressed(sender, f"{path}/reveal", path)
    assert status == 200
    assert f"+{PHONE}" in page
    assert html.escape(dev_body().decode()) in page
    again = sender.service.request("GET", f"{path}/reveal", None, {"Cookie": f"{COOKIE}={sender.service.token}"})
    assert (again.status, again.headers["Location"]) == (303, path)
    assert PHONE[4:] not in opened(sender, f"/deliveries/{delivery}")
    assert PHONE in pressed(sender, f"/deliveries/{delivery}/reveal", path)[1]
    entries = sender.service.get("audit", admin_token, limit=2).json()["data"]
    assert [(entry["what"], entry["record_id"]) for entry in entries] == [
        ("call.reveal_delivery", delivery),
        ("call.reveal", call),
    ]


def test_a_token_that_may_only_read_reveals_nothing(sender: Sender, read_token: str) -> None:
    delivery = sender.assert_accepted(dev_body())
    call = sender.outcome()["id"]
    assert "Reveal" not in opened(sender, f"/calls/{call}", read_token)
    for path in (f"/calls/{call}/reveal", f"/deliveries/{delivery}/reveal", f"/deliveries/{delivery}/reprocess"):
        status, page, _ = pressed(sender, path, "/calls?" + urlencode({"integration": sender.name}), read_token)
        assert status == 403
        assert PHONE not in page


def test_a_quarantined_delivery_says_why_and_is_read_again(reader: Analyst, sender: Sender, admin_token: str) -> None:
    delivery = sender.assert_accepted(b"{]", "application/json", verdict="quarantined")
    page = reader.open(f"/deliveries/{delivery}")
    expect(page.locator("article")).to_contain_text("It says that it is JSON, and is none")
    expect(page.get_by_role("button", name="Read it again")).to_have_count(0)
    reader.assert_accessible()
    path = f"/deliveries/{delivery}/reprocess"
    status, _, onward = pressed(sender, path, f"/deliveries/{delivery}", admin_token)
    assert (status, onward) == (303, f"/deliveries/{delivery}")

    good = sender.assert_accepted(dev_body())
    with sender.service.sql() as connection:  # as a release would have left it that could not read this
        wrong = "UPDATE deliveries SET verdict = 'quarantined', reason = 'no_known_field'"
        connection.execute(f"{wrong} WHERE integration = '{sender.name}' AND verdict = 'applied'")
    status, _, onward = pressed(sender, f"/deliveries/{good}/reprocess", f"/deliveries/{good}", admin_token)
    assert (status, onward) == (303, f"/calls/{sender.outcome()['id']}")


def test_a_call_page_shows_its_expected_call_and_identity(sender: Sender, admin_token: str) -> None:
    call = {
        "integration": sender.name,
        "reference": "appt-9",
        "phone_number": f"+{PHONE}",
        "metadata": {"patient": "7", "callback_at": "tomorrow", "wait_seconds": [1]},
    }
    headers = {"Authorization": f"Bearer {admin_token}", "Content-Type": "application/json"}
    asked = sender.service.request("POST", "/api/v1/expected-calls", json.dumps(call).encode(), headers)
    assert asked.status == 200, asked.body
    sender.post_json({"call_details": {"status": "Completed", "events": []}}, below="/call/appt-9").assert_completed()
    page = opened(sender, f"/calls/{sender.outcome()['id']}")
    assert "It was expected" in page
    assert "its result has come" in page
    assert "By the reference in its result_url" in page
    assert "callback_at" in page
    with sender.service.sql() as connection:
        connection.execute(f"DELETE FROM expected_calls WHERE integration = '{sender.name}'")


def test_hostile_values_show_as_text(reader: Analyst, sender: Sender) -> None:
    fields = ("message_reference", "call_id", "callee_type", "result", "phone_number", "attempts", HOSTILE[:50])
    sender.assert_accepted(dev_body(**dict.fromkeys(fields, HOSTILE)))
    page = reader.open(f"/calls/{sender.outcome()['id']}")
    assert page.title() == "One call · Plum Outcomes"
    assert page.locator("main script").count() == 0
    reader.assert_fits()
    assert len(page.content()) < 100_000


@pytest.mark.parametrize(
    "path", ["/calls/nothing", "/calls/5f0d3bd6-6e2b-4b0c-9d7e-0d1f6a3c9b52", "/deliveries/nothing"]
)
def test_a_missing_page_says_so(sender: Sender, path: str) -> None:
    answer = sender.service.request("GET", path, None, {"Cookie": f"{COOKIE}={sender.service.token}"})
    assert answer.status == 404
    assert b"Not Found" in answer.body
