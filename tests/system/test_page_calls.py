"""The list of calls in a real browser: found, narrowed down, shared, taken away, and told of what comes."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.system.browser import Analyst, analyst
from tests.system.conftest import PHONE, Sender, Service, dev_body

ENGINE = "sqlite"

HOSTILE = "<script>document.title='taken'</script>\u202e'\"&amp;" + "x" * 10_000


@pytest.fixture
def reader(browser: Browser, service: Service) -> Iterator[Analyst]:
    with analyst(browser, service) as made:
        yield made


def call(number: int, **changes: object) -> bytes:
    return dev_body(call_id=str(number), message_reference=f"appt-{number}", **changes)


@pytest.fixture
def calls(sender: Sender) -> Sender:
    """Seventy of them: more than a page, and of three dispositions."""
    for number in range(70):
        result = {0: {"callee_type": "busy", "result": "Failed"}, 1: {"result": "Canceled"}}.get(number % 5, {})
        sender.assert_accepted(call(number, **result), below=f"/batch/{'east%2C%20west' if number % 2 else 'north'}")
    return sender


def test_a_list_shows_what_the_api_shows_page_by_page(reader: Analyst, calls: Sender) -> None:
    path = f"/calls?integration={calls.name}&fields=message_reference,disposition,phone_number"
    reader.open(path)
    shown = reader.rows()
    assert len(shown) == 50
    reader.page.get_by_role("link", name="More →").click()
    expect(reader.page.locator("tbody tr")).to_have_count(20)
    shown += reader.rows()
    assert [row[0] for row in shown] == [one["message_reference"] for one in calls.outcomes()]
    assert {row[2] for row in shown} == {"+1617•••1234"}
    reader.page.get_by_role("link", name="← Before").click()
    expect(reader.page.locator("tbody tr")).to_have_count(50)
    assert reader.rows() == shown[:50]


def test_facets_count_as_the_api_does_and_narrow_the_list(reader: Analyst, calls: Sender) -> None:
    counted = Counter(one["disposition"] for one in calls.outcomes())
    page = reader.open(f"/calls?integration={calls.name}")
    expect(page.locator("h1")).to_have_text(f"Calls {sum(counted.values())}")
    facets = page.locator("aside")
    facets.get_by_role("link", name="Busy").first.click()
    expect(page.locator("h1")).to_have_text(f"Calls {counted['busy']}")
    facets.get_by_role("link", name="east, west").click()
    expected = [one for one in calls.outcomes(disposition="busy") if one["batch"] == "east, west"]
    expect(page.locator("h1")).to_have_text(f"Calls {len(expected)}")
    page.get_by_role("link", name="Without: Disposition is busy").click()
    expect(page.locator("h1")).to_have_text("Calls 35")


def test_a_view_is_its_address(browser: Browser, reader: Analyst, calls: Sender) -> None:
    page = reader.open(f"/calls?integration={calls.name}&tz=America/New_York")
    page.get_by_role("link", name="Attempts").click()
    expect(page.locator("th[aria-sort]")).to_have_text("Attempts ↓")
    page.locator("aside").get_by_role("link", name="Answered").first.click()
    expect(page.locator("h1")).to_have_text("Calls 56")
    with analyst(browser, calls.service) as other:
        other.open(page.url.partition(str(calls.service.port))[2])
        assert other.rows() == reader.rows()
        assert "19 Jul 2004 13:46:03" in other.rows()[0][0]
        expect(other.page.locator("th[aria-sort]")).to_have_text("Attempts ↓")


def test_a_view_is_saved_under_a_name_for_all_and_removed(browser: Browser, reader: Analyst, calls: Sender) -> None:
    page = reader.open(f"/calls?integration={calls.name}&disposition=busy&batch=east%2C+west&batch=east%2C+west")
    shown = reader.rows()
    page.get_by_text("Save this view").click()
    page.get_by_label("Name").fill("<b>Busy in the east</b>")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Remove this view")).to_be_visible()
    with analyst(browser, calls.service) as other:
        other.open("/calls").get_by_role("link", name="<b>Busy in the east</b>").click()
        expect(other.page.locator("h1")).to_have_text(f"Calls {len(shown)}")
        assert other.rows() == shown
        other.page.get_by_role("button", name="Remove this view").click()
        expect(other.page.get_by_role("link", name="<b>Busy in the east</b>")).to_have_count(0)


def test_with_read_views_of_others_cannot_be_removed(
    browser: Browser, reader: Analyst, calls: Sender, read_token: str
) -> None:
    page = reader.open(f"/calls?integration={calls.name}")
    page.get_by_text("Save this view").click()
    page.get_by_label("Name").fill("Not theirs")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Remove this view")).to_be_visible()
    with analyst(browser, calls.service, read_token) as other:
        theirs = other.open(f"/calls?integration={calls.name}")
        expect(theirs.get_by_role("link", name="Not theirs")).to_have_count(1)
        expect(theirs.get_by_role("button", name="Remove this view")).to_have_count(0)
        base, csrf = f"http://127.0.0.1:{calls.service.port}", theirs.locator("input[name=csrf]").first.input_value()
        assert theirs.request.post(f"{base}/views/remove", form={"csrf": csrf, "name": "Not theirs"}).status == 404
    page.get_by_role("button", name="Remove this view").click()
    expect(page.get_by_role("link", name="Not theirs")).to_have_count(0)


def test_no_view_is_saved_that_holds_a_number(reader: Analyst, calls: Sender) -> None:
    page = reader.open(f"/calls?phone_number=%2B{PHONE}")
    page.get_by_text("Save this view").click()
    page.get_by_label("Name").fill("Mine alone")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("dt")).to_have_text("phone_number")
    reader.complaints.clear()  # Chromium tells of the status
    expect(reader.open("/calls").get_by_role("link", name="Mine alone")).to_have_count(0)


def test_an_export_is_exactly_the_list(reader: Analyst, calls: Sender, tmp_path: Path) -> None:
    page = reader.open(f"/calls?integration={calls.name}&disposition=busy&fields=message_reference,phone_number")
    expect(page.locator("form.export label").first).to_have_text("Take these 14 calls along as")
    with page.expect_download() as caught:
        page.get_by_role("button", name="Export").click()
    caught.value.save_as(tmp_path / "masked.csv")
    expect(page.locator("form.export output")).to_have_text(re.compile(r"Done: outcomes-\w+\.csv"))
    with (tmp_path / "masked.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    references = [one["message_reference"] for one in calls.outcomes(disposition="busy")]
    assert [row["message_reference"] for row in rows] == references
    assert {row["phone_number"] for row in rows} == {"'+1617•••1234"}

    page.get_by_label("with whole numbers").check()
    with page.expect_download() as caught:
        page.get_by_role("button", name="Export").click()
    caught.value.save_as(tmp_path / "whole.csv")
    assert f"+{PHONE}" in (tmp_path / "whole.csv").read_text()

    page.get_by_label("Take these").select_option("redial")
    with page.expect_download() as caught:
        page.get_by_role("button", name="Export").click()
    caught.value.save_as(tmp_path / "redial.csv")
    assert (tmp_path / "redial.csv").read_text().split() == ["destination", f"+{PHONE}"]


def test_an_export_works_without_scripts(browser: Browser, calls: Sender) -> None:
    with analyst(browser, calls.service, java_script_enabled=False, accept_downloads=True) as reader:
        page = reader.open(f"/calls?integration={calls.name}")
        page.get_by_label("Take these").select_option("ndjson")
        with page.expect_download() as caught:
            page.get_by_role("button", name="Export").click()
        lines = [json.loads(line) for line in Path(caught.value.path()).read_text().splitlines()]
        assert len(lines) == 70
        shown = ["ended_at", "phone_number", "disposition", "callee_type", "attempts", "duration_seconds"]
        assert list(lines[0]) == [*shown, "integration", "batch"]
        page.get_by_label("with all columns").check()
        with page.expect_download() as caught:
            page.get_by_role("button", name="Export").click()
        assert list(json.loads(Path(caught.value.path()).read_text().splitlines()[0])) == list(calls.outcomes()[0])


def test_a_new_call_is_announced_without_moving_the_page(reader: Analyst, calls: Sender) -> None:
    page = reader.open(f"/calls?integration={calls.name}")
    reader.wait_for_stream()
    before = reader.rows()
    calls.assert_accepted(call(999, last_attempt_timestamp="Mon, 19 Jul 2027 13:46:03 -0400"))
    told = page.get_by_role("link", name="1 call is new or has changed: show it")
    expect(told).to_be_visible()
    assert reader.rows() == before
    told.click()
    expect(page.locator("h1")).to_have_text("Calls 71")


def test_an_empty_list_shows_the_first_call_by_itself(reader: Analyst, sender: Sender) -> None:
    page = reader.open(f"/calls?integration={sender.name}")
    expect(page.get_by_text("No call matches the filters")).to_be_visible()
    reader.wait_for_stream()
    sender.assert_accepted(call(1))
    expect(page.locator("tbody tr")).to_have_count(1)


def test_hostile_values_show_as_text(reader: Analyst, sender: Sender) -> None:
    body = dev_body(
        message_reference=HOSTILE,
        call_id=HOSTILE,
        callee_type=HOSTILE,
        result=HOSTILE,
        phone_number=HOSTILE,
        odd=HOSTILE,
    )
    sender.assert_accepted(body, below=f"/batch/{quote(HOSTILE[:60], safe='')}")
    names = "fields=message_reference,call_id,status_raw,callee_type_raw,batch,extra,problems,phone_number_raw"
    page = reader.open(f"/calls?integration={sender.name}&{names}")
    assert page.title() == "Calls · Plum Outcomes"
    assert "<script>document.title" in reader.rows()[0][0]
    assert len(page.content()) < 100_000
    reader.assert_fits()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1600])
def test_the_list_is_accessible_and_fits(browser: Browser, calls: Sender, scheme: str, width: int) -> None:
    size = {"width": width, "height": 900}
    with analyst(browser, calls.service, color_scheme=scheme, viewport=size) as reader:
        for path in (f"/calls?integration={calls.name}&disposition=busy", "/calls?integration=nobody"):
            reader.open(path)
            reader.assert_accessible()
            reader.assert_fits()


def test_a_missing_record_is_reported_in_words(reader: Analyst, service: Service) -> None:
    answer = reader.page.goto(f"http://127.0.0.1:{service.port}/calls?colour=red")
    assert answer is not None
    assert answer.status == 422
    expect(reader.page.locator("dt")).to_have_text("colour")
    reader.complaints.clear()  # Chromium tells of the status


def test_a_token_that_may_only_read_finds_no_number(browser: Browser, calls: Sender, read_token: str) -> None:
    """Neither by a filter nor by an export with whole numbers."""
    with analyst(browser, calls.service, read_token) as reader:
        page = reader.open(f"/calls?integration={calls.name}")
        assert PHONE[4:] not in page.content()
        expect(page.get_by_label("with whole numbers")).to_have_count(0)
        found = page.goto(f"http://127.0.0.1:{calls.service.port}/calls?phone_number=%2B{PHONE}")
        assert found is not None
        assert found.status == 403
        reader.complaints.clear()
        reader.open(f"/calls?integration={calls.name}")
        csrf = page.locator("form.export input[name=csrf]").input_value()
        base, form = f"http://127.0.0.1:{calls.service.port}", {"csrf": csrf, "format": "csv", "reveal": "on"}
        exported = page.request.post(f"{base}/calls/export?integration={calls.name}", form=form)
        assert exported.status == 200
        assert PHONE not in exported.text()
        assert page.request.post(f"{base}/calls/export", form=form | {"format": "redial"}).status == 403
        assert page.request.get(f"{base}/api/v1/outcomes?integration={calls.name}").status == 200
