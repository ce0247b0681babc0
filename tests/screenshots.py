"""The README's pictures: `python -m tests.screenshots [--all] DIRECTORY`; all: every page in each look and size."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.conftest import wait_until
from tests.system.browser import analyst, chromium
from tests.system.conftest import Service

CALLS = 1500
PICTURES = {
    "overview": ("/?period=7-days", "light", 1280, 900),
    "calls": ("/calls?disposition=answered&answered_by=human", "light", 1280, 800),
    "call": ("/calls/{id}", "light", 1280, 900),
    "attention": ("/attention", "dark", 1280, 800),
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
        service = Service(f"sqlite:///{temporary}/outcomes.db", Path(temporary)).prepare()
        service.token = service.new_token("Ada", "admin")
        service.start()
        try:
            for name, product in (("reminders", "dev"), ("surveys", "insight"), ("collections", "fuse")):
                url = service.sender(name, product).result_url
                service.ok("simulate", "--calls", str(CALLS), "--misbehave", "--result-url", f"{product}={url}")
            wait_until(lambda: service.get("summary").status == 200, 60)
            shoot(service, directory, pictures)
        finally:
            service.stop()


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
