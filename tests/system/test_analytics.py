"""The process of the analytical copy may die, stand still or lose its file: nothing else feels it, and comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import frozen, wait_until
from tests.system.conftest import Installation, Sender, Service, dev_body
from tests.system.faults import beside, metric, running


@pytest.fixture(scope="module")
def with_a_copy(new_database_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    """A service whose copy may be broken, since it has to be there again for the next test."""
    with running(new_database_url(), tmp_path_factory.mktemp("with-a-copy"), worker_count=1) as made:
        yield made


@pytest.fixture
def alone(with_a_copy: Sender) -> Sender:
    """Its sender, of which nothing is stored."""
    with_a_copy.forget()
    wait_until(lambda: count(with_a_copy.service) == 0, 30)
    return with_a_copy


def count(service: Service) -> int | None:
    answer = service.get("summary")
    return answer.json()["data"][0]["count"] if answer.status == 200 else None


def file_of(service: Service) -> Path:
    return service.directory / "analytics.duckdb"


@pytest.mark.parametrize("fault", ["killed", "deleted", "overwritten"])
def test_a_copy_that_is_lost_is_there_again_and_counts_all(alone: Sender, fault: str) -> None:
    service = alone.service
    for number in range(20):
        alone.assert_accepted(dev_body(call_id=number))
    assert count(service) == 20
    before = beside(service, "analytics")
    assert before
    if fault == "deleted":
        file_of(service).unlink()
    else:
        if fault == "overwritten":
            size = file_of(service).stat().st_size
            file_of(service).write_bytes(bytes(size))
        os.kill(before, signal.SIGKILL)
    alone.assert_accepted(dev_body(call_id="later"))
    wait_until(lambda: beside(service, "analytics") not in (before, None) and count(service) == 21, 30)
    assert len(alone.outcomes(status="completed", limit=100)) == 21
    wait_until(lambda: metric(service, "plum_analytics_filled") == 1)
    assert metric(service, "plum_analytics_lag_seconds") < 60


def test_while_the_copy_is_frozen_posts_lists_and_look_ups_work(alone: Sender) -> None:
    service = alone.service
    alone.assert_accepted(dev_body(call_id="1"), below="/call/order-1")
    assert count(service) == 1
    copy = beside(service, "analytics")
    assert copy
    with frozen([copy]):
        later = dev_body(
            call_id="2", last_attempt_timestamp="Tue, 20 Jul 2004 13:46:03 -0400", phone_number="6175550000"
        )
        alone.assert_accepted(later, below="/call/order-2")
        [newest, _] = service.get("outcomes").json()["data"]
        assert newest["reference"] == "order-2"
        for filters in ({"reference": "order-2"}, {"id": newest["id"]}, {"phone_number": newest["phone_number"]}):
            assert newest in service.get("outcomes", **filters).json()["data"]
        assert service.get(f"outcomes/{newest['id']}").json() == newest
        assert len(service.get("deliveries", via="http").json()["data"]) == 2
        assert service.get("deliveries.csv", fields="via").body == b"via\nhttp\nhttp\n"
        answer = service.get("summary")
        assert answer.status == 503
        assert "analytical copy" in answer.json()["detail"]
        assert answer.headers["Retry-After"]
    wait_until(lambda: count(service) == 2)


def test_commands_ask_the_running_service_and_else_open_the_copy_themselves(alone: Sender) -> None:
    service = alone.service
    for number in range(3):
        alone.assert_accepted(dev_body(call_id=number, result="Failed" if number else "Completed", callee_type=None))
    for is_running in (True, False):
        assert service.json("summary", "group_by=status", "status=failed")[0]["count"] == 2
        assert len(service.json("outcomes", "status=failed", "sort=-attempts")) == 2
        exported = service.ok("export", "--format", "csv", "status=failed", "fields=status")
        assert exported.split() == ["status", "failed", "failed"]
        if is_running:
            service.stop()
    service.start()


def test_commands_may_write_the_stores_address_in_another_way(alone: Sender) -> None:
    service = alone.service
    alone.assert_accepted(dev_body(call_id="1"))
    assert count(service) == 1
    url = service.database_url
    if url.startswith("sqlite"):
        other = f"sqlite:///{os.path.relpath(url.removeprefix('sqlite:///'), service.directory)}"
    else:
        other = f"{url}?application_name=analyst"
    settings = {"PLUM_ANALYTICS_PATH": str(file_of(service))}
    assert Installation(other, service.directory, settings).json("summary")[0]["count"] == 1


def test_only_the_service_s_user_can_open_the_copy_and_its_socket(alone: Sender) -> None:
    assert count(alone.service) == 0
    found = {path.name: oct(path.stat().st_mode & 0o777) for path in alone.service.directory.glob("analytics*")}
    assert {"analytics.duckdb", "analytics.duckdb.sock"} <= set(found)
    assert set(found.values()) == {"0o600"}


def test_two_installations_that_share_a_path_are_distinguished(
    alone: Sender, new_database_url, tmp_path: Path
) -> None:
    service = alone.service
    assert count(service) == 0
    settings = {"PLUM_ANALYTICS_PATH": str(file_of(service))}
    other = Service(new_database_url(), tmp_path / "other", settings)
    other.directory.mkdir()
    other.ok("migrate")
    other.assert_one_line("summary", says="give each its own")


def test_a_count_has_what_a_replica_that_lags_behind_lacks(
    new_database_url: Callable[[], str], tmp_path: Path
) -> None:
    lagging = Service(new_database_url(), tmp_path).prepare()  # it never catches up
    service = Service(new_database_url(), tmp_path, {"PLUM_READ_DATABASE_URL": lagging.database_url}).prepare()
    service.start()
    try:
        for call in "abc":
            service.one.post(dev_body(call_id=call)).assert_completed()
        for filters in ({}, {"status": "completed"}, {"call_id": "a,b,c"}):
            page = service.get("outcomes", count="exact", **filters).json()
            assert (page["data"], page["count"]) == ([], {"value": 3, "kind": "exact"})
    finally:
        service.stop()
