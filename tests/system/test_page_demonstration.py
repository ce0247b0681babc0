"""A development install shows simulated calls at the press of a button; any other one refuses."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlencode

from tests.conftest import wait_until
from tests.system.browser import COOKIE
from tests.system.conftest import FORM, Service

SIMULATED = 200


def test_a_development_install_simulates_calls_and_another_does_not(tmp_path: Path) -> None:
    service = Service(f"sqlite:///{tmp_path / 'outcomes.db'}", tmp_path, worker_count=1).prepare()
    service.token = service.admin_token
    held = {"Cookie": f"{COOKIE}={service.token}", "Content-Type": FORM}

    def pressed() -> int:
        page = service.request("GET", "/calls", None, held).body.decode()
        csrf = re.search(r'name="csrf" value="(\w+)"', page)[1]
        assert ("Simulate calls" in page) == ("PLUM_PUBLIC_URL" not in service.settings)
        return service.request("POST", "/simulate", urlencode({"csrf": csrf}).encode(), held).status

    service.start()
    try:
        assert pressed() == 403
    finally:
        service.stop()

    service.start(is_public=False)
    try:
        assert pressed() == 303
        wait_until(lambda: len(service.records("outcomes", integration="simulated")) == SIMULATED, 60)
    finally:
        service.stop()
