"""Receiver, analysts' side and metrics as processes of their own: what each serves, and what runs beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import Cluster, wait_until
from tests.system.conftest import Sender, Service, command_line, dev_body

ENGINE = "sqlite"

FACES = {
    "receiver": {"/result/KEY", "/start/KEY"},
    "analyst": {"/api/v1/outcomes", "/api/docs", "/api/openapi.json"},
    "metrics": {"/metrics"},
}


@pytest.fixture(scope="module")
def apart(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Service]]:
    """A service for each role; that of metrics has the receiver's spool."""
    url, made = cluster.create(), {}
    with ExitStack() as running:
        for role in FACES:
            directory = tmp_path_factory.mktemp(role)
            spool = made.get("receiver") if role == "metrics" else None
            settings = {"PLUM_ROLES": role} | ({"PLUM_SPOOL_DIR": str(spool.directory / "spool")} if spool else {})
            made[role] = Service(url, directory, settings, worker_count=1)
            if role == "receiver":
                made[role].prepare()
            made[role].token = made["receiver"].token
            made[role].start()
            running.callback(made[role].stop)
        yield made


@pytest.fixture(scope="module")
def sender(apart: dict[str, Service]) -> Sender:
    """Posts to the receiver; its questions go to the analysts' side."""
    made = apart["receiver"].one
    return Sender(apart["analyst"], made.name, made.key, made.result_url)


@pytest.mark.parametrize("role", FACES)
def test_each_process_serves_its_face_and_no_other(apart: dict[str, Service], sender: Sender, role: str) -> None:
    def status(path: str) -> int:
        headers = {"Authorization": f"Bearer {sender.service.token}"}
        return apart[role].request("GET", path.replace("KEY", sender.key), None, headers).status

    assert {path for paths in FACES.values() for path in paths if status(path) != 404} == FACES[role]
    assert {status("/livez"), status("/readyz")} == {200}


def test_no_header_changes_the_path_that_a_proxy_has_checked(apart: dict[str, Service]) -> None:
    asked = apart["metrics"].request("GET", "/result/x/metrics", None, {"SCRIPT_NAME": "/result/x"})
    assert asked.status == 404


def test_acknowledged_results_can_be_queried_on_the_analysts_side_at_once(
    apart: dict[str, Service], sender: Sender
) -> None:
    for number in range(20):
        apart["receiver"].request("POST", sender.path, dev_body(call_id=str(number))).assert_completed()
        assert sender.service.get("outcomes", integration="one", count="exact").json()["count"]["value"] == number + 1


def test_the_copy_is_kept_for_analysts_and_house_for_each_spool(apart: dict[str, Service]) -> None:
    beside = {
        role: sorted(command_line(pid).split(b"\0")[3].decode() for pid in service._group() if is_beside(pid))
        for role, service in apart.items()
    }
    house = ["housekeeping"]
    assert beside == {"receiver": house, "analyst": ["analytics", *house], "metrics": house}
    assert not list(apart["receiver"].directory.glob("analytics*"))


def is_beside(pid: int) -> bool:
    return command_line(pid).split(b"\0")[1:3] == [b"-m", b"app.cli"]


def test_a_second_housekeeping_takes_over_when_the_first_ends(apart: dict[str, Service]) -> None:
    beat = apart["receiver"].directory / "spool" / "housekeeping.lock"
    apart["receiver"].stop()
    try:
        last = beat.stat().st_mtime
        wait_until(lambda: beat.stat().st_mtime > last)
    finally:
        apart["receiver"].start()
