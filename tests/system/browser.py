"""A real Chromium, and an analyst who is signed in with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.conftest import skip_or_fail
from tests.system.conftest import Service

COOKIE = "plum_token"

expect.set_options(timeout=20_000)  # a busy machine takes several times as long as a quiet one


@contextmanager
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        skip_or_fail("no Chromium is here; install it: apt-get install chromium")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Analyst:
    """One browser window, and what went wrong in it."""

    service: Service
    page: Page
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        answer = self.page.goto(f"http://127.0.0.1:{self.service.port}{path}")
        assert answer is not None
        assert answer.status == 200, (path, answer.status, answer.text())
        return self.page

    def assert_accessible(self) -> None:
        """axe finds nothing: https://github.com/dequelabs/axe-core."""
        found = Axe().run(self.page).response["violations"]
        told = [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found]
        assert told == [], told

    def assert_fits(self) -> None:
        """No page is wider than its window."""
        widths: list[int] = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], (self.page.url, widths)

    def wait_for_stream(self) -> None:
        """Until the page hears of whatever comes."""
        expect(self.page.locator("[data-joined]")).to_have_count(1)

    def rows(self) -> list[list[str]]:
        """Of the page's first table, as they are read."""
        texts: list[list[str]] = (
            self.page.locator("table")
            .first.locator("tbody tr")
            .evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))")
        )
        return texts


@contextmanager
def analyst(browser: Browser, service: Service, token: str | None = None, **options: Any) -> Iterator[Analyst]:
    """Signed in with the token, else with the service's own; nothing that the browser complains of is passed over."""
    context: BrowserContext = browser.new_context(**options)
    try:
        base = f"http://127.0.0.1:{service.port}"
        context.add_cookies([{"name": COOKIE, "value": token or service.token, "url": base}])
        made = Analyst(service, context.new_page())

        def heard(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                made.complaints.append(message.text)

        made.page.on("console", heard)
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        yield made
        assert made.complaints == []
    finally:
        context.close()
