"""A call is live while its start is kept: whatever becomes of store and spool, its script is not kept waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from tests.conftest import Cluster, frozen, wait_until
from tests.system.conftest import Answer, Sender, dev_body, together
from tests.system.faults import UNDER_WAY_SECONDS, WAITED_SECONDS, assert_drained, metric, running, stopped
from tests.system.test_scripts import FIELDS, SCRIPT, heard, store_script, wait_until_heard
from tests.system.test_start import path, start

SILENCE_SECONDS = 4.0  # after which workers ask anew what a key opens


@pytest.fixture(scope="module")
def scripted(own: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    """A service that is well again after each test."""
    with running(own.create(), tmp_path_factory.mktemp("scripted")) as made:
        store_script(made, SCRIPT)
        wait_until_heard(made, SCRIPT)
        yield made


@pytest.fixture
def sender(scripted: Sender) -> Sender:
    wait_until(lambda: metric(scripted.service, "plum_breaker_open") == 0)
    scripted.forget()
    return scripted


def timed_start(sender: Sender, number: int) -> tuple[Answer, float]:
    began = time.monotonic()
    answer = start(sender, call_id=str(number))
    return answer, time.monotonic() - began


def assert_started_once(sender: Sender, answers: list[Answer]) -> None:
    wait_until(lambda: sender.service.request("GET", "/readyz").status == 200, UNDER_WAY_SECONDS)
    assert_drained(sender.service)
    wait_until(lambda: sender.service.get("deliveries").status == 200)
    kept = sender.deliveries(verdict="started")
    assert sorted(one["id"] for one in kept) == sorted(str(UUID(one.headers["X-Delivery-Id"])) for one in answers)
    assert sender.outcomes() == []


@pytest.mark.parametrize("silence", [0.0, SILENCE_SECONDS])
def test_a_store_that_hangs_does_not_keep_calls_waiting(own: Cluster, sender: Sender, silence: float) -> None:
    before = metric(sender.service, "plum_deliveries_total")
    time.sleep(silence)
    with frozen(own.pids()):
        timed = together(12, lambda number: timed_start(sender, number))
        timed += [timed_start(sender, number) for number in range(12, 20)]
    assert [seconds for _, seconds in timed if seconds > WAITED_SECONDS] == []
    for number, (answer, _) in enumerate(timed):
        assert heard(answer, "spooled") == FIELDS | {"call_id": str(number)}
    assert_started_once(sender, [answer for answer, _ in timed])
    assert metric(sender.service, "plum_deliveries_total") == before + len(timed)


def test_a_result_in_the_same_group_still_waits_for_the_store(own: Cluster, sender: Sender) -> None:
    acts = [lambda: start(sender), lambda: sender.post(dev_body())] * 4
    with frozen(own.pids()):
        answers = together(len(acts), lambda number: (acts[number](), time.monotonic()))
    last_start, first_result = max(at for _, at in answers[::2]), min(at for _, at in answers[1::2])
    assert last_start < first_result
    assert {answer.status for answer, _ in answers} == {200}


def test_a_call_whose_start_cannot_be_stored_gets_its_script_and_is_counted(own: Cluster, sender: Sender) -> None:
    with stopped(own):
        wait_until(lambda: start(sender).headers["X-Delivery-Verdict"] == "spooled")
        with without_spool(sender):
            answer = start(sender)
            assert heard(answer) == FIELDS
            assert answer.headers["X-Delivery-Id"] is None
            assert sender.post(dev_body()).status == 503
            assert metric(sender.service, "plum_starts_lost_total") == 1
            assert "start is answered but not stored" in sender.service.stderr
    assert sender.service.request("GET", path(sender)).status == 200


@contextmanager
def without_spool(sender: Sender) -> Iterator[None]:
    """A file stands where its directory was."""
    spool = sender.service.directory / "spool"
    kept = spool.rename(spool.with_name("kept"))
    spool.write_text("in the way")
    try:
        yield
    finally:
        spool.unlink()
        kept.rename(spool)
