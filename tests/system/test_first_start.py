"""The first start shows all that is needed; a second keeps everything and shows no secret again."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.conftest import skip_or_fail, wait_until
from tests.system.conftest import Service

ENGINE = "sqlite"


def bash(line: str) -> str:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_output_of_the_first_start_works_and_the_second_keeps_it(
    new_database_url: Callable[[], str], tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        skip_or_fail("curl is not here; install it: apt-get install curl")
    service = Service(new_database_url(), tmp_path)
    service.start("--welcome")
    try:
        wait_until(lambda: service.stdout.count("curl ") == 2)
        first = service.stdout
        [url] = set(re.findall(rf"http://127\.0\.0\.1:{service.port}/result/[\w-]+", first))
        [service.token] = re.findall(r"token +(\S+)", first)
        posting, asking = (line.strip() for line in first.splitlines() if line.strip().startswith("curl "))
        service.secrets |= {service.token, url.rpartition("/")[2]}

        assert bash(posting) == "completed"
        [outcome] = json.loads(bash(asking))["data"]
        assert (outcome["product"], outcome["status"], outcome["phone_number"]) == (
            "dev",
            "completed",
            "+16175551234",
        )
        [address] = re.findall(r"page +(http\S+)", first)
        shown = bash(f"curl -s -H 'Cookie: plum_token={service.token}' '{address}'")
        assert f'href="/calls/{outcome["id"]}' in shown
        assert "+1617•••1234" in shown
    finally:
        service.stop()

    service.start("--welcome")
    try:
        assert service.token not in service.stdout
        assert url not in service.stdout
        assert "curl" not in service.stdout
        assert service.json("integration", "list")[0]["name"] == service.json("token", "list")[0]["name"]
        assert len(service.json("integration", "list")) == len(service.json("token", "list")) == 1
        assert json.loads(bash(asking))["data"] == [outcome]
        assert bash(posting) == "completed"
        assert json.loads(bash(asking))["data"][0]["deliveries"] == 2
    finally:
        service.stop()


def test_a_port_already_taken_leaves_the_first_start_for_the_next_time(tmp_path: Path) -> None:
    fresh = Service(f"sqlite:///{tmp_path / 'outcomes.db'}", tmp_path)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        fresh.assert_one_line("serve", "--welcome", "--bind", address, says=address)
    assert fresh.json("integration", "list") == fresh.json("token", "list") == []
