"""kill -9, of everything and of single processes: what was acknowledged stays, and counts once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import wait_until
from tests.system.conftest import Sender
from tests.system.faults import (
    Load,
    Post,
    Watch,
    assert_nothing_lost_or_doubled,
    beside,
    beside_workers,
    kill,
    metric,
    running,
    total,
)

ROUNDS = 3
UNPACED = 0.001


@pytest.fixture(scope="module")
def one_sender(new_database_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    """Its service may be killed: all of it is there again for the next test."""
    with running(new_database_url(), tmp_path_factory.mktemp("killed")) as made:
        yield made


def test_everything_killed_under_load(sender: Sender) -> None:
    service = sender.service
    acknowledged: list[Post] = []
    for number in range(ROUNDS):
        with Load(sender, f"round{number}", threads=16, pause=UNPACED) as load:
            load.wait_for(500)
            kill(service)
            wait_until(lambda load=load: load.unanswered)
        acknowledged += load.acknowledged
        service.start()
        assert_nothing_lost_or_doubled(sender, acknowledged)


def test_single_processes_killed_under_load(sender: Sender) -> None:
    """Web workers one by one, then what runs beside them: each is replaced, and the count never goes back."""
    service = sender.service
    first, before = service.workers(), metric(service, "plum_deliveries_total")
    with Watch(service, "/metrics", "/livez") as watch, Load(sender, "single", pause=UNPACED) as load:
        for killed in first:
            load.wait_for(200)
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda killed=killed: len(service.workers()) == 2 and killed not in service.workers(), 30)
        others = beside_workers(service)
        for killed in others:
            os.kill(killed, signal.SIGKILL)
        load.wait_for(200)
    assert set(first).isdisjoint(service.workers())
    assert others
    wait_until(lambda: len(beside_workers(service) - others) == len(others))
    wait_until(lambda: "housekeeping" not in service.request("GET", "/readyz").body.decode())
    deliveries = assert_nothing_lost_or_doubled(sender, load.acknowledged)
    assert {post.status for post in load.posts} <= {200, None}

    counts = [total(look.text, "plum_deliveries_total") for look in watch.of("/metrics") if look.status == 200]
    assert counts == sorted(counts)
    counted = metric(service, "plum_deliveries_total")
    assert counted >= max(counts)
    assert abs(counted - before - len(deliveries)) <= len(load.unanswered), (counted, before, len(deliveries))


def test_housekeeping_is_started_again_each_time_that_it_is_killed(sender: Sender) -> None:
    service = sender.service
    for _ in range(4):
        killed = beside(service, "housekeeping")
        assert killed
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda killed=killed: beside(service, "housekeeping") not in (killed, None), 10)
    assert len(service.workers()) == 2
