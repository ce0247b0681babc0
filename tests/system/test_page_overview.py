"""The overview in a real browser, and every page in each look: found by clicks, without scripts, by anybody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from playwright.sync_api import Browser, expect

from tests.system.browser import Analyst, analyst
from tests.system.conftest import Sender, dev_body

ENGINE = "sqlite"

PAGES = ("/", "/?period=7-days", "/calls", "/attention", "/setup", "/search?q=nothing-like-it")
PAGE_BYTES = 100_000


@pytest.fixture
def calls(sender: Sender) -> Sender:
    """Twelve of the last hours, of which two were busy."""
    for number in range(12):
        ended = format_datetime(datetime.now(UTC) - timedelta(hours=number, minutes=5))
        busy = {"result": "Failed", "callee_type": "busy"} if number in (3, 7) else {}
        sender.assert_accepted(dev_body(call_id=str(number), last_attempt_timestamp=ended, **busy))
    return sender


@pytest.fixture
def reader(browser: Browser, calls: Sender) -> Iterator[Analyst]:
    with analyst(browser, calls.service) as made:
        yield made


def test_a_call_is_found_from_the_chart_in_three_clicks(reader: Analyst, calls: Sender) -> None:
    page = reader.open(f"/?period=7-days&integration={calls.name}")
    page.locator(".legend").get_by_role("link", name="Busy").click()
    expect(page.locator("h1")).to_have_text("Calls 2")
    page.locator("tbody a").first.click()
    expect(page.locator("h1")).to_contain_text("Busy")

    page = reader.open(f"/?period=7-days&integration={calls.name}")
    bar = page.locator("svg.chart a").first
    count = int(bar.locator("title").text_content().rpartition(": ")[2].split()[0])
    bar.click()
    expect(page.locator("h1")).to_have_text(f"Calls {count}")


def test_the_overview_announces_new_calls(reader: Analyst, calls: Sender) -> None:
    page = reader.open("/")
    reader.wait_for_stream()
    calls.assert_accepted(dev_body(call_id="comes-later"))
    page.get_by_role("link", name="1 call is new or has changed: show it").click()
    expect(page.get_by_text("19 Jul 2004")).to_have_count(1)


def test_every_page_reads_without_scripts(browser: Browser, calls: Sender, admin_token: str) -> None:
    with analyst(browser, calls.service, java_script_enabled=False) as reader:
        page = reader.open(f"/?period=7-days&integration={calls.name}")
        expect(page.locator("svg.chart a").first).to_be_visible()
        page.get_by_text("The same as a table").click()
        expect(page.get_by_role("table").first).to_be_visible()
        page.get_by_role("link", name="its calls").click()
        expect(page.locator("h1")).to_have_text("Calls 12")
        page.locator("tbody a").first.click()
        expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
    with analyst(browser, calls.service, admin_token, java_script_enabled=False) as reader:
        for path in PAGES:
            expect(reader.open(path).locator("h1")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1600])
def test_every_page_is_accessible_fits_and_is_small(
    browser: Browser, calls: Sender, admin_token: str, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 900}
    with analyst(browser, calls.service, admin_token, color_scheme=scheme, viewport=size) as reader:
        for path in (*PAGES, f"/calls/{calls.outcomes()[0]['id']}"):
            page = reader.open(path)
            reader.assert_accessible()
            reader.assert_fits()
            assert len(page.content().encode()) <= PAGE_BYTES, path


def test_on_a_phone_the_newest_calls_of_the_chart_and_the_dispositions_show_without_scrolling(
    browser: Browser, calls: Sender
) -> None:
    with analyst(browser, calls.service, viewport={"width": 390, "height": 5000}) as reader:
        page = reader.open(f"/?period=30-days&integration={calls.name}")
        expect(page.locator("svg.chart a").last).to_be_in_viewport(ratio=1)
        page = reader.open(f"/calls?integration={calls.name}")
        expect(page.get_by_role("cell", name="Busy", exact=True).first.locator(".badge")).to_be_in_viewport(ratio=1)


def test_the_keyboard_reaches_all_that_the_mouse_does(reader: Analyst, calls: Sender) -> None:
    """Each link and button of the list by Tab alone, the first one leading past the navigation."""
    page = reader.open(f"/calls?integration={calls.name}")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    wanted = page.locator("a:visible, button:visible, input:visible, select:visible, summary:visible").count()
    reached = set()
    for _ in range(2 * wanted):
        reached.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
        page.keyboard.press("Tab")
    assert len(reached) >= wanted
    page.goto(page.url)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
