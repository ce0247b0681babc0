"""A client that a kept generator makes from the document asks what it is told to ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.conftest import ROOT, Sender, Service, dev_body

ENGINE = "sqlite"

PROGRAMS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def client(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which the generated package lies; a part that the generator cannot make is a failure."""
    directory = tmp_path_factory.mktemp("client")
    document = directory / "openapi.json"
    document.write_bytes(service.request("GET", "/api/openapi.json").body)
    command = [
        str(PROGRAMS / "openapi-python-client"), "generate", "--fail-on-warning", "--meta", "none",
        "--config", str(ROOT / "docs" / "client.yaml"), "--path", str(document),
        "--output-path", str(directory / "plum_outcomes_client"),
    ]  # fmt: skip
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"  # the generator formats what it makes
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_a_generated_client_filters_and_follows_pages(service: Service, sender: Sender, client: Path) -> None:
    for number, (kind, attempts) in enumerate([("busy", 2), ("voice", 3), ("noanswer", 5), ("busy", 1), ("busy", 4)]):
        result = "Completed" if kind == "voice" else "Failed"
        moment = "Mon, 02 Mar 2026 12:00:00 +0000"
        body = dev_body(
            call_id=f"g{number}", result=result, callee_type=kind, attempts=attempts, last_attempt_timestamp=moment
        )
        sender.assert_accepted(body)
    url = f"http://127.0.0.1:{service.port}"
    asked = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("generated.py")), url, service.token, sender.name],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(client), "NO_PROXY": "127.0.0.1"},
    )
    assert asked.returncode == 0, asked.stderr
    pages, problem = map(json.loads, asked.stdout.splitlines())
    assert [[outcome["call_id"] for outcome in page["data"]] for page in pages] == [["g0", "g2"], ["g4"]]
    assert [page["count"] for page in pages] == [{"value": 3, "kind": "exact"}] * 2
    records = sender.outcomes(sort="call_id", disposition="busy,no_answer", attempts__gte=2)
    assert [outcome["id"] for page in pages for outcome in page["data"]] == [record["id"] for record in records]
    assert list(problem["errors"]) == ["disposition"]
