"""Acknowledged means durable: in the store, else in the spool, else refused; and many share one commit."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from app.errors import StoreRefused, StoreUnavailable
from app.intake import breaker as breaker_module
from app.intake import writer as writer_module
from app.intake.breaker import Breaker, within
from app.intake.spool import Spool
from app.intake.writer import MAX_GROUP, Writer
from app.model import Delivery, Reading, Receipt, Verdict
from tests.conftest import wait_until


def delivery(size: int = 10) -> Delivery:
    return Delivery(id=uuid4(), integration="i", received_at=datetime(2026, 3, 8, tzinfo=UTC), body=b"x" * size)


class Store:
    """Remembers its groups; fails, hangs or works on command."""

    def __init__(self) -> None:
        self.groups: list[list[Delivery]] = []
        self.failure: Exception | None = None
        self.works = threading.Event()
        self.works.set()

    def save(self, readings):
        assert self.works.wait(10)
        if self.failure:
            raise self.failure
        deliveries = [reading.delivery for reading in readings]
        self.groups.append(deliveries)
        return [Receipt(one.id, Verdict.APPLIED) for one in deliveries]

    def probe(self) -> None:
        assert self.works.wait(10)
        if self.failure:
            raise self.failure


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def spool(tmp_path) -> Spool:
    return Spool(tmp_path)


@pytest.fixture
def breaker(store, monkeypatch) -> Breaker:
    monkeypatch.setattr(breaker_module, "HANG_SECONDS", 0.2)
    monkeypatch.setattr(breaker_module, "PROBE_SECONDS", 0.02)
    return Breaker(store.probe, forget=lambda: None)


@pytest.fixture
def writer(store, breaker, spool) -> Writer:
    return Writer(lambda deliveries: [Reading(one) for one in deliveries], store.save, breaker, spool)


def submit_all(
    writer: Writer, deliveries: list[Delivery], patience: float | None = None
) -> list[Receipt | Exception]:
    results: dict = {}

    def submit(one: Delivery) -> None:
        try:
            results[one.id] = writer.submit(one, patience)
        except BaseException as error:  # noqa: BLE001
            results[one.id] = error

    threads = [threading.Thread(target=submit, args=(one,)) for one in deliveries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return [results[one.id] for one in deliveries]


def test_each_gets_its_own_receipt_and_few_commits_serve_many(writer, store) -> None:
    sent = [delivery() for _ in range(120)]
    writer._save = lambda group: (time.sleep(0.01), store.save(group))[1]
    receipts = submit_all(writer, sent)
    assert [receipt.delivery_id for receipt in receipts] == [one.id for one in sent]
    assert sorted(one.id for group in store.groups for one in group) == sorted(one.id for one in sent)
    assert len(store.groups) < len(sent) / 3


@pytest.mark.parametrize(("size", "sent", "groups"), [(10, MAX_GROUP + 50, [MAX_GROUP, 50]), (1 << 20, 7, [4, 3])])
def test_a_group_is_bounded_in_count_and_bytes(writer, store, monkeypatch, size, sent, groups) -> None:
    joined: list[Delivery] = []
    add = writer_module._Group.add
    monkeypatch.setattr(writer_module._Group, "add", lambda group, one: (joined.append(one), add(group, one))[1])
    with writer._turn:  # all come while another group is written
        submitting = threading.Thread(target=submit_all, args=(writer, [delivery(size) for _ in range(sent)]))
        submitting.start()
        wait_until(lambda: len(joined) == sent)
    submitting.join(20)
    assert sorted(len(group) for group in store.groups) == sorted(groups)


@pytest.mark.parametrize("failure", [StoreUnavailable("away"), StoreRefused("not this")])
def test_posts_while_the_store_is_away_are_spooled_and_acknowledged(writer, store, spool, failure) -> None:
    store.failure = failure
    sent = [delivery() for _ in range(10)]
    receipts = submit_all(writer, sent)
    assert {receipt.verdict for receipt in receipts} == {Verdict.SPOOLED}
    kept = [one.id for piece in spool.pieces() for one in piece.deliveries]
    assert sorted(kept) == sorted(one.id for one in sent)


def test_where_neither_takes_it_it_is_refused(writer, store, spool, monkeypatch) -> None:
    def full(_):
        raise StoreUnavailable("full")

    store.failure = StoreUnavailable("away")
    monkeypatch.setattr(spool, "append", full)
    results = submit_all(writer, [delivery() for _ in range(10)])
    assert all(isinstance(result, StoreUnavailable) for result in results)
    monkeypatch.undo()
    assert submit_all(writer, [delivery()])[0].verdict is Verdict.SPOOLED


def test_an_unforeseen_failure_of_the_store_leaves_no_caller_waiting(writer, store) -> None:
    store.failure = ZeroDivisionError()
    results = submit_all(writer, [delivery() for _ in range(10)])
    assert {getattr(result, "verdict", None) for result in results} == {Verdict.SPOOLED}


def test_a_leader_that_is_killed_leaves_no_caller_waiting(writer, store, monkeypatch) -> None:
    class Ended(BaseException):
        """Like what ends a greenlet."""

    def end(group):
        raise Ended

    killed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", killed.append)
    writer._gather, gather = end, writer._gather
    others: list[list] = []
    with writer._turn:
        waiting = threading.Thread(target=lambda: others.append(submit_all(writer, [delivery() for _ in range(9)])))
        waiting.start()
        wait_until(lambda: writer._forming and len(writer._forming.deliveries) == 9)
    waiting.join(20)
    [results] = others
    assert [type(result) for result in results].count(StoreUnavailable) == 9
    wait_until(lambda: len(killed) == 1)
    writer._gather = gather
    assert submit_all(writer, [delivery()])[0].verdict is Verdict.APPLIED


def test_a_store_that_hangs_delays_only_those_under_way(writer, store, breaker) -> None:
    store.works.clear()
    assert submit_all(writer, [delivery()])[0].verdict is Verdict.SPOOLED
    assert breaker.is_open
    calls = len(store.groups)
    assert {receipt.verdict for receipt in submit_all(writer, [delivery() for _ in range(50)])} == {Verdict.SPOOLED}
    assert len(store.groups) == calls
    store.works.set()
    wait_until(lambda: not breaker.is_open)
    assert submit_all(writer, [delivery()])[0].verdict is Verdict.APPLIED


IMPATIENT_SECONDS = 0.05


def test_impatient_deliveries_are_stored_if_the_store_responds_in_time(writer, store, spool) -> None:
    assert writer.submit(delivery(), patience=10).verdict is Verdict.APPLIED
    assert len(store.groups) == 1
    assert list(spool.pieces()) == []


def test_impatient_deliveries_are_spooled_and_others_wait_for_the_store(writer, store, spool, monkeypatch) -> None:
    monkeypatch.setattr(breaker_module, "HANG_SECONDS", 10)
    store.works.clear()
    sent = [delivery() for _ in range(4)]
    results: dict = {}
    patient = threading.Thread(target=lambda: results.update(patient=writer.submit(sent[0])))
    patient.start()
    receipts = [writer.submit(one, IMPATIENT_SECONDS) for one in sent[1:]]  # in the group behind, led by one of them
    assert [(one.delivery_id, one.verdict) for one in receipts] == [(one.id, Verdict.SPOOLED) for one in sent[1:]]
    assert patient.is_alive()
    store.works.set()
    patient.join(20)
    assert results["patient"].verdict is Verdict.APPLIED
    wait_until(lambda: sorted(one.id for group in store.groups for one in group) == sorted(one.id for one in sent))
    assert {one.id for piece in spool.pieces() for one in piece.deliveries} == {one.id for one in sent[1:]}


def test_impatient_deliveries_of_a_group_share_one_sync(writer, store, spool, monkeypatch) -> None:
    appended: list[int] = []
    append = spool.append
    monkeypatch.setattr(spool, "append", lambda group: (appended.append(len(group)), append(group)))
    store.works.clear()
    with writer._turn:
        sent = [delivery() for _ in range(20)]
        receipts = submit_all(writer, sent, 0.3)
    assert {one.verdict for one in receipts} == {Verdict.SPOOLED}
    assert sum(appended) >= 20
    assert len(appended) < 10
    store.works.set()


def test_a_delivery_that_is_spooled_and_committed_is_counted_once(writer, store) -> None:
    before = counted()
    store.works.clear()
    assert writer.submit(delivery(), IMPATIENT_SECONDS).verdict is Verdict.SPOOLED
    assert counted() - before == {"spooled": 1}
    store.works.set()
    wait_until(lambda: store.groups)
    assert writer.submit(delivery()).verdict is Verdict.APPLIED  # behind it, so that the first is counted, if it is
    assert counted() - before == {"spooled": 1, "applied": 1}


SENDER = {"integration": "i", "product": "auto"}


def counted() -> Counter[str]:
    told = {verdict.value: SENDER | {"verdict": verdict.value} for verdict in Verdict}
    return Counter(
        {verdict: REGISTRY.get_sample_value("plum_deliveries_total", of) or 0 for verdict, of in told.items()}
    )


def test_an_impatient_delivery_that_nothing_stores_in_time_fails_at_once(writer, store, spool, monkeypatch) -> None:
    def full(_):
        raise StoreUnavailable("full")

    monkeypatch.setattr(spool, "append", full)
    monkeypatch.setattr(breaker_module, "HANG_SECONDS", 10)
    store.works.clear()
    with pytest.raises(StoreUnavailable, match="full"):
        writer.submit(delivery(), IMPATIENT_SECONDS)
    assert store.groups == []
    store.works.set()


def test_the_breaker_closes_when_the_store_is_back(store, breaker) -> None:
    store.failure = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        breaker.call(lambda: store.save([]))
    assert breaker.is_open
    store.failure = None
    wait_until(lambda: not breaker.is_open)
    assert breaker.call(lambda: 5) == 5


def test_a_refusal_of_content_does_not_open_the_breaker(store, breaker) -> None:
    store.failure = StoreRefused("not this")
    with pytest.raises(StoreRefused):
        breaker.call(lambda: store.save([]))
    assert not breaker.is_open


def test_work_within_a_time_limit_gives_its_result_or_its_failure() -> None:
    assert within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)
    with pytest.raises(StoreUnavailable, match="no answer within"):
        within(0.05, lambda: time.sleep(0.3))


def inflating(count: int) -> list[Delivery]:
    return [delivery()._replace(headers=(("Content-Encoding", "gzip"),)) for _ in range(count)]


def test_of_bodies_that_inflate_few_are_held_at_a_time(store, breaker, spool) -> None:
    """A hundred bytes each may become 16 MiB: a group of them would fill the memory, and its commit take too long."""
    interpreted, held = [0], []

    def interpret(deliveries):
        interpreted[0] += len(deliveries)
        held.append(interpreted[0] - sum(map(len, store.groups)))
        return [Reading(one, body_bytes=16 << 20) for one in deliveries]

    sent = inflating(20)
    results = submit_all(Writer(interpret, store.save, breaker, spool), sent)
    assert {receipt.verdict for receipt in results} == {Verdict.APPLIED}
    assert sorted(one.id for group in store.groups for one in group) == sorted(one.id for one in sent)
    assert max(held) == 1


def test_each_part_of_a_group_is_acknowledged_when_it_is_durable(store, breaker, spool) -> None:
    goes_on = threading.Event()

    def interpret(deliveries):
        assert not store.groups or goes_on.wait(20)
        return [Reading(one, body_bytes=16 << 20) for one in deliveries]

    writer = Writer(interpret, store.save, breaker, spool)
    receipts: list[Receipt] = []
    with ThreadPoolExecutor(5) as pool:
        with writer._turn:  # all come while another group is written
            for one in inflating(5):
                pool.submit(lambda one=one: receipts.append(writer.submit(one)))
            wait_until(lambda: writer._forming and len(writer._forming.deliveries) == 5)
        try:
            wait_until(lambda: len(receipts) == 1)
        finally:
            goes_on.set()
    assert [receipt.verdict for receipt in receipts] == [Verdict.APPLIED] * 5


@pytest.mark.parametrize("is_spool_full", [False, True])
def test_what_is_stored_before_the_store_goes_away_stays_acknowledged(
    store, breaker, spool, monkeypatch, is_spool_full
) -> None:
    def refuse(_):
        raise StoreUnavailable("no space")

    def save(readings):
        if store.groups:
            raise StoreUnavailable("away")
        return Store.save(store, readings)

    if is_spool_full:
        monkeypatch.setattr(spool, "append", refuse)
    monkeypatch.setattr(store, "probe", lambda: refuse(None))
    writer = Writer(
        lambda deliveries: [Reading(one, body_bytes=16 << 20) for one in deliveries], save, breaker, spool
    )
    sent = inflating(5)
    results = submit_all(writer, sent)
    verdicts = Counter(getattr(one, "verdict", type(one)) for one in results)
    assert verdicts == {Verdict.APPLIED: 1, StoreUnavailable if is_spool_full else Verdict.SPOOLED: 4}
    [[stored]] = store.groups
    assert results[sent.index(stored)].verdict is Verdict.APPLIED
