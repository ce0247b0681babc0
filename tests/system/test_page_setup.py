"""The set-up in a real browser: an integration is made, its address copied, and its first calls are awaited."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.system.browser import analyst
from tests.system.conftest import FORM, Service, dev_body

ENGINE = "sqlite"


@pytest.fixture(scope="module")
def owner(service: Service) -> Iterator[str]:
    yield service.new_token("owner-of-setup", "admin")
    service.ok("token", "revoke", "owner-of-setup")


def test_a_new_integration_shows_its_first_probe_and_result_by_itself(
    browser: Browser, service: Service, owner: str, engine_name: str
) -> None:
    with analyst(browser, service, owner, permissions=["clipboard-read", "clipboard-write"]) as reader:
        page = reader.open("/setup")
        page.get_by_label("Name of a new integration").fill("made-on-page")
        page.get_by_role("form", name="Make an integration").get_by_role("button", name="Make it").click()
        expect(page.get_by_role("button", name="Copy result_url")).to_be_visible()
        reader.assert_accessible()
        reader.assert_fits()
        page.get_by_role("button", name="Copy result_url").click()
        expect(page.get_by_text("Copied")).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert re.fullmatch(rf"http://127\.0\.0\.1:{service.port}/result/[\w-]+", copied)
        path = urlsplit(copied).path
        service.know(path.rpartition("/")[2])
        assert path not in page.url
        assert service.request("GET", path).status == 200
        expect(page.locator("#probe.good")).to_be_visible()
        expect(page.locator("#result.good")).to_have_count(0)
        assert service.request("POST", path, dev_body(), {"Content-Type": FORM}).status == 200
        expect(page.locator("#result.good")).to_be_visible()
        expect(page.get_by_role("link", name="See the call")).to_have_attribute(
            "href", re.compile(r"/calls/[\w-]{36}")
        )


@pytest.mark.parametrize(("scheme", "width"), [("light", 1600), ("dark", 390)])
def test_set_up_and_attention_are_accessible_and_fit(
    browser: Browser, service: Service, owner: str, scheme: str, width: int
) -> None:
    sender = service.sender(f"odd-{scheme}")
    for body in (b"nothing=known", dev_body(result="<b>Odd</b>")):
        sender.post(body)
    size = {"width": width, "height": 900}
    with analyst(browser, service, owner, color_scheme=scheme, viewport=size) as reader:
        for path in ("/attention", "/setup"):
            page = reader.open(path)
            for summary in page.locator("main summary").all():
                summary.click()
            reader.assert_accessible()
            reader.assert_fits()
