"""The README's pictures: `python -m tests.screenshots [--all] DIRECTORY`; all: every page in each look and size."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from app.plum.simulator import Target, campaign, noise, run
from tests.conftest import wait_until
from tests.system.browser import analyst, chromium
from tests.system.conftest import Service

DAYS = 20
CALLS = 120  # of each product a day, and fewer the longer ago
PICTURES = {
    "overview": ("/?period=7-days", "light", 1080, 760),
    "calls": ("/calls?disposition=answered&answered_by=human", "light", 1080, 640),
    "call": ("/calls/{id}", "light", 1080, 760),
    "attention": ("/attention", "dark", 1080, 640),
}
PAGES = {
    "overview": "/?period=7-days",
    "calls": "/calls?disposition=answered",
    "call": "/calls/{id}",
    "attention": "/attention",
    "setup": "/setup",
    "search": "/search?q=nothing",
}
SIZES = ((390, 844), (1600, 1000))


def everything() -> dict[str, tuple[str, str, int, int]]:
    """Each page in each look."""
    return {
        f"{name}-{scheme}-{width}": (path, scheme, width, height)
        for name, path in PAGES.items()
        for scheme in ("light", "dark")
        for width, height in SIZES
    }


def make(directory: Path, pictures: dict[str, tuple[str, str, int, int]]) -> None:
    with TemporaryDirectory() as temporary:
        service = Service(f"sqlite:///{temporary}/outcomes.db", Path(temporary))
        service.ok("migrate")
        service.token = service.admin_token = service.json("token", "add", "Ada", "--scope", "admin")["token"]
        service.start()
        try:
            senders = (("reminders", "dev"), ("surveys", "insight"), ("collections", "fuse"))
            targets = [Target(service.sender(name, product).result_url, product) for name, product in senders]
            for days in range(1, DAYS):
                play(targets, days)
            wait_until(lambda: service.get("summary").status == 200, 60)
            shoot(service, directory, pictures)
        finally:
            service.stop()


def play(targets: list[Target], days: int) -> None:
    """Calls of so many days ago."""
    count, base = CALLS * 3 * (DAYS - days // 2) // DAYS, datetime.now(UTC) - timedelta(days=days)
    calls = campaign(targets, count, seed=days, misbehave=True, base=base)
    run(calls, noise(targets, 10, seed=days), 8, lambda posted: None, 30)


def shoot(service: Service, directory: Path, pictures: dict[str, tuple[str, str, int, int]]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    [call] = service.get("outcomes", limit=1, deliveries__gt=1, product="dev", disposition="answered").json()["data"]
    with chromium() as browser:
        for name, (path, scheme, width, height) in pictures.items():
            size = {"width": width, "height": height}
            with analyst(browser, service, color_scheme=scheme, viewport=size) as reader:
                page = reader.open(path.format(id=call["id"]))
                page.screenshot(path=directory / f"{name}.png")


if __name__ == "__main__":
    make(Path(sys.argv[-1]), everything() if "--all" in sys.argv else PICTURES)
