"""What waits in the spool gets into the store: once, whatever lies in its way, and by one process at a time."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import select

from app import housekeeping
from app.assembly import recorder
from app.config import Settings
from app.errors import StoreRefused, StoreUnavailable
from app.housekeeping import LOCK, Housekeeping, heartbeat_age
from app.intake import known_keys
from app.intake.known_keys import KnownKeys
from app.intake.spool import ASIDE, Backlog, Spool
from app.model import Delivery, Integration, KnownKey, Product, Reading, Receipt, Verdict, Via, hashed, networks
from app.store.database import Database
from app.store.schema import deliveries, outcomes
from tests.conftest import wait_until

NOW = datetime(2026, 3, 8, tzinfo=UTC)
CHORES = {
    "rehearse": lambda: None,
    "forget": lambda: None,
    "truncate_wal": lambda: None,
    "renew_journal": lambda: False,
}


def delivery(body: bytes = b"result=Completed&call_id=1") -> Delivery:
    return Delivery(id=uuid4(), integration="i", received_at=NOW, body=body)


@pytest.fixture
def spool(tmp_path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def database(store_url):
    database = Database(store_url)
    yield database
    database.close()


def keeping(spool: Spool, record, active_keys=dict, **more) -> Housekeeping:
    chores = CHORES | {"known_keys": KnownKeys(spool.directory), "active_keys": active_keys} | more

    def read(group):
        return [Reading(one) for one in group]

    def save(readings):
        return record([reading.delivery for reading in readings])

    return Housekeeping(spool, read, save, **chores)


def waiting(spool: Spool) -> list[Delivery]:
    return [one for piece in spool.pieces() for one in piece.deliveries]


def segments(spool: Spool) -> list[Path]:
    return sorted(spool.directory.glob("*.segment"))


def rows(database: Database) -> list:
    with database.reading() as connection:
        return connection.execute(select(deliveries.c.id, deliveries.c.via, deliveries.c.received_at)).all()


def test_drained_deliveries_keep_their_ids_and_times(spool, database) -> None:
    record = recorder(database, Settings())
    sent = [delivery(b"result=Completed&call_id=%d" % number) for number in range(500)]
    for start in range(0, 500, 7):
        spool.append(sent[start : start + 7])
    house = keeping(spool, record)
    while house.drain():
        pass
    assert {row.id for row in rows(database)} == {one.id for one in sent}
    assert {(row.via, row.received_at) for row in rows(database)} == {("spool", NOW)}
    assert segments(spool) == []


def test_a_commit_whose_response_was_lost_counts_once(spool, database) -> None:
    record = recorder(database, Settings())
    sent = [delivery() for _ in range(5)]
    record(sent[:3])
    spool.append(sent)
    keeping(spool, record).drain()
    spool.append(sent)
    keeping(spool, record).drain()
    with database.reading() as connection:
        [outcome] = connection.execute(select(outcomes)).all()
    assert (len(rows(database)), outcome.deliveries) == (5, 5)


def test_a_spool_file_that_is_there_twice_counts_once(spool, database) -> None:
    spool.append([delivery(), delivery()])
    [file] = segments(spool)
    file.with_name("0-copy.segment").write_bytes(file.read_bytes())
    keeping(spool, recorder(database, Settings())).drain()
    with database.reading() as connection:
        [outcome] = connection.execute(select(outcomes)).all()
    assert (len(rows(database)), outcome.deliveries, segments(spool)) == (2, 2, [])


def test_a_damaged_record_is_set_aside_without_its_neighbours(spool, database) -> None:
    spool.append([delivery(b"result=Completed&call_id=%d" % number) for number in range(50)])
    [file] = segments(spool)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"call_id=25", b"call_id=75"))
    keeping(spool, recorder(database, Settings())).drain()
    assert len(rows(database)) == 49
    [damage] = (spool.directory / ASIDE).iterdir()
    assert b"call_id=75" in damage.read_bytes()
    assert b"call_id=24" not in damage.read_bytes()
    assert spool.backlog() == Backlog(0, 0, 0.0, 1)


@pytest.mark.parametrize("failure", [StoreRefused("no"), ZeroDivisionError()])
def test_a_delivery_that_cannot_be_stored_costs_its_neighbours_nothing(spool, failure) -> None:
    bad, stored = delivery(), []
    spool.append([delivery(), bad, delivery()])

    def record(group):
        if any(one.id == bad.id for one in group):
            raise failure
        stored.extend(group)
        return [Receipt(one.id, Verdict.APPLIED) for one in group]

    house = keeping(spool, record)
    while house.drain():
        pass
    assert len(stored) == 2
    assert (waiting(spool), spool.backlog().aside) == ([], 1)
    spool.retry()
    assert waiting(spool) == [bad._replace(via=Via.SPOOL)]


@pytest.mark.parametrize("failing", ["drained", "set_aside"])
def test_a_file_that_cannot_be_drained_blocks_no_other_and_is_drained_later(
    spool, monkeypatch, caplog, failing
) -> None:
    """As one that another user copied there, or one with a refused delivery on a full disk."""
    stored, at_fault = [], delivery()
    for one in (at_fault, delivery(), delivery()):
        spool.append([one])
        spool._segment = None
    stuck, *_ = spool._files()
    real = getattr(spool, failing)

    def fail(what) -> None:
        if what == [at_fault._replace(via=Via.SPOOL)] or getattr(what, "file", None) == stuck:
            raise OSError(28, "No space left on device")
        real(what)

    def record(group):
        if failing == "set_aside" and any(one.id == at_fault.id for one in group):
            raise StoreRefused("no")
        stored.extend(group)
        return [Receipt(one.id, Verdict.APPLIED) for one in group]

    monkeypatch.setattr(spool, failing, fail)
    house = keeping(spool, record)
    assert [house.drain() for _ in range(3)] == [2, 0, 0]
    assert waiting(spool) == [at_fault._replace(via=Via.SPOOL)]
    assert caplog.text.count(f"{stuck} cannot be drained") == 1
    monkeypatch.setattr(spool, failing, real)
    house._passed_over.clear()  # as after a minute
    assert house.drain() == 1
    assert waiting(spool) == []


def test_nothing_is_set_aside_for_a_fault_that_is_the_stores(spool) -> None:
    """One that nobody foresaw may meet every delivery; those keep waiting, in their order."""

    def rehearse() -> None:
        raise StoreUnavailable("the store fails")

    spool.append([delivery(), delivery()])
    house = keeping(spool, lambda _: 1 / 0, rehearse=rehearse)
    with pytest.raises(StoreUnavailable):
        house.drain()
    assert (len(waiting(spool)), spool.backlog().aside) == (2, 0)


def test_files_set_aside_are_retried_at_the_start(spool) -> None:
    stored, stop = [], threading.Event()

    def record(group):
        stored.extend(group)
        stop.set()
        return [Receipt(one.id, Verdict.APPLIED) for one in group]

    spool.append([delivery()])
    spool.set_aside([once_refused := delivery()])
    keeping(spool, record).run(stop)
    assert once_refused.id in {one.id for one in stored}


def test_a_listing_serves_until_all_that_it_found_is_drained(spool, monkeypatch) -> None:
    """Many files, as they may be left by the last release."""
    for _ in range(30):
        spool.append([delivery() for _ in range(20)])
        spool._segment = None
    listings = []
    files = spool._files
    monkeypatch.setattr(spool, "_files", lambda: listings.append(1) or files())
    house = keeping(spool, lambda group: [Receipt(one.id, Verdict.APPLIED) for one in group])
    assert [house.drain() for _ in range(4)] == [200, 200, 200, 0]
    assert len(listings) == 2


def test_while_the_store_is_away_everything_stays(spool) -> None:
    def record(_):
        raise StoreUnavailable("away")

    spool.append([delivery()])
    with pytest.raises(StoreUnavailable):
        keeping(spool, record).drain()
    assert spool.backlog().deliveries == 1


def test_a_store_that_never_responds_does_not_stop_the_draining(spool, monkeypatch) -> None:
    monkeypatch.setattr(housekeeping, "STORE_SECONDS", 0.1)
    hung, stored, forgotten = threading.Event(), [], []

    def record(group):
        if not forgotten:
            hung.wait(20)
        stored.extend(group)
        return [Receipt(one.id, Verdict.APPLIED) for one in group]

    spool.append([delivery()])
    stop = threading.Event()
    house = keeping(spool, record, forget=lambda: forgotten.append(1))
    thread = threading.Thread(target=house.run, args=(stop,))
    thread.start()
    wait_until(lambda: segments(spool) == [])
    stop.set()
    hung.set()
    thread.join()
    assert forgotten
    assert len(stored) >= 1


def test_garbage_blocks_neither_backlog_nor_drain(spool) -> None:
    stored: list[Delivery] = []
    spool.append([delivery()])
    (spool.directory / "garbage.spool").write_bytes(b"garbage")
    (spool.directory / "1-2.segment").write_bytes(b"")
    assert spool.backlog().deliveries == 2
    house = keeping(spool, lambda group: stored.extend(group) or [Receipt(one.id, Verdict.APPLIED) for one in group])
    for _ in range(5):
        house.drain()
    assert len(stored) == 1
    assert spool.backlog() == Backlog(0, 0, 0.0, 1)


def test_one_keeps_house_at_a_time_and_the_next_takes_over(spool) -> None:
    turns: list[int] = []
    stops = [threading.Event(), threading.Event()]

    def keep(number: int) -> None:
        keeping(spool, lambda _: [], lambda: turns.append(number) or {}).run(stops[number])

    threads = [threading.Thread(target=keep, args=(number,)) for number in (0, 1)]
    threads[0].start()
    wait_until(lambda: 0 in turns)
    threads[1].start()
    wait_until(lambda: len(turns) > 3)
    assert heartbeat_age(spool.directory) < 30
    assert 1 not in turns
    stops[0].set()
    wait_until(lambda: 1 in turns)
    stops[1].set()
    for thread in threads:
        thread.join()
    assert heartbeat_age(spool.directory) is None


def test_hanging_housekeeping_is_distinguished_from_waiting_for_the_store(spool, monkeypatch) -> None:
    monkeypatch.setattr(housekeeping, "STORE_SECONDS", 0.05)
    monkeypatch.setattr(housekeeping, "PAUSE_SECONDS", 0.01)
    stop, hung, asked = threading.Event(), threading.Event(), []

    def hang() -> dict:
        asked.append(heartbeat_age(spool.directory))
        os.utime(spool.directory / LOCK, (0, 0))
        hung.wait(1)
        return {}

    thread = threading.Thread(target=keeping(spool, list, hang).run, args=(stop,))
    thread.start()
    wait_until(lambda: len(asked) > 3)
    stop.set()
    thread.join()
    assert max(asked) < 30


def test_an_unusable_spool_directory_is_tried_again_and_logged_once(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(housekeeping, "PAUSE_SECONDS", 0.01)
    (tmp_path / "spool").write_text("in the way")
    stop, asked = threading.Event(), []
    house = keeping(Spool(tmp_path / "spool"), list, lambda: asked.append(1) or {})
    thread = threading.Thread(target=house.run, args=(stop,))
    thread.start()
    time.sleep(0.2)
    (tmp_path / "spool").unlink()
    wait_until(lambda: asked)
    stop.set()
    thread.join()
    assert caplog.text.count("cannot be used") == 1


def test_known_keys_are_replaced_beside_those_of_another_container(tmp_path, monkeypatch, caplog) -> None:
    """There a process may have the same number."""
    write = known_keys.write_durably
    keys = {"aa": KnownKey(Integration("mine", None), None)}

    def write_while_the_other_does(file: Path, content: bytes) -> None:
        monkeypatch.setattr(known_keys, "write_durably", write)
        write(file, content)
        KnownKeys(tmp_path).replace({})
        KnownKeys(tmp_path).replace(keys)

    monkeypatch.setattr(known_keys, "write_durably", write_while_the_other_does)
    KnownKeys(tmp_path).replace(keys)
    assert caplog.records == []
    assert KnownKeys(tmp_path).read() == keys
    assert sorted(file.name for file in tmp_path.iterdir()) == [known_keys.FILE, known_keys.SCRIPTS]


def test_known_keys_are_kept_hashed_and_forgotten_when_they_end(tmp_path) -> None:
    keys = KnownKeys(tmp_path)
    assert keys.read() == {}
    integration = Integration("i", Product.FUSE)
    known = {hashed("secret").hex(): KnownKey(integration, None), hashed("old").hex(): KnownKey(integration, NOW)}
    keys.replace(known)
    assert KnownKeys(tmp_path).read() == known
    assert "secret" not in (tmp_path / "keys.json").read_text()
    keys.replace({})
    assert KnownKeys(tmp_path).read() == {}


BROKEN = [b"", b"{", b"[]", b'{"a": 1}', b"\xff", b"[" * 200_000]


@pytest.mark.parametrize("content", BROKEN)
def test_a_damaged_file_of_known_keys_is_replaced(tmp_path, content) -> None:
    (tmp_path / "keys.json").write_bytes(content)
    keys = KnownKeys(tmp_path)
    assert keys.read() == {}
    known = {hashed("secret").hex(): KnownKey(Integration("i", None), None)}
    keys.replace(known)
    assert KnownKeys(tmp_path).read() == known


def test_keys_that_cannot_be_read_for_a_moment_are_read_again(tmp_path, monkeypatch) -> None:
    keys = {"a": KnownKey(Integration("ours", None), None)}
    KnownKeys(tmp_path).replace(keys)
    read_bytes, later = Path.read_bytes, KnownKeys(tmp_path)

    def fail(file: Path) -> bytes:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert later.read() == {}
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert later.read() == keys


def test_scripts_that_cannot_be_opened_cost_no_key(tmp_path) -> None:
    keys = {"a": KnownKey(Integration("ours", None), None)}
    KnownKeys(tmp_path).replace(keys)
    (tmp_path / "scripts.json").unlink(missing_ok=True)
    (tmp_path / "scripts.json").mkdir()
    assert KnownKeys(tmp_path).read() == keys


def test_scripts_are_kept_beside_the_keys_and_forgotten_when_they_are_removed(tmp_path) -> None:
    keys, others = KnownKeys(tmp_path), KnownKeys(tmp_path)
    for script in ("<vxml>é</vxml>", "<vxml>2</vxml>", None):
        known = {hashed("secret").hex(): KnownKey(Integration("i", None, script), NOW)}
        keys.replace(known)
        assert others.read() == keys.read() == known


def test_programs_without_scripts_and_this_one_read_each_others_keys(tmp_path) -> None:
    known = {hashed("secret").hex(): KnownKey(Integration("i", Product.DEV, "<vxml/>"), NOW)}
    KnownKeys(tmp_path).replace(known)
    written = json.loads((tmp_path / "keys.json").read_text())
    assert written == {hashed("secret").hex(): ["i", "dev", NOW.isoformat()]}
    (tmp_path / "scripts.json").unlink()
    assert KnownKeys(tmp_path).read() == {hashed("secret").hex(): KnownKey(Integration("i", Product.DEV), NOW)}


def test_a_keys_networks_and_password_are_kept_with_it(tmp_path) -> None:
    guarded = Integration("i", None, None, networks("10.0.0.0/8,2001:db8::/32"), hashed("i:password"))
    known = {
        hashed("secret").hex(): KnownKey(guarded, NOW),
        hashed("b").hex(): KnownKey(Integration("j", None), None),
    }
    KnownKeys(tmp_path).replace(known)
    assert KnownKeys(tmp_path).read() == known
    assert "password" not in (tmp_path / "keys.json").read_text()


@pytest.mark.parametrize("content", BROKEN)
def test_a_file_of_scripts_that_broke_costs_no_key(tmp_path, content) -> None:
    known = {hashed("secret").hex(): KnownKey(Integration("i", None, "<vxml/>"), None)}
    keys = KnownKeys(tmp_path)
    keys.replace(known)
    (tmp_path / "scripts.json").write_bytes(content)
    assert {one.integration.name for one in keys.read().values()} == {"i"}
    keys.replace(known)
    assert KnownKeys(tmp_path).read() == known


def test_known_keys_that_cannot_be_written_cost_no_delivery(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    keys = KnownKeys(tmp_path / "file" / "spool")
    keys.replace({hashed("secret").hex(): KnownKey(Integration("i", None), None)})
    assert keys.read() == {}


def test_a_removed_spool_directory_is_created_again_by_its_housekeeping(spool) -> None:
    stop = threading.Event()
    house = keeping(spool, lambda deliveries: [])
    thread = threading.Thread(target=house.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: heartbeat_age(spool.directory) is not None)
        shutil.rmtree(spool.directory)
        wait_until(lambda: heartbeat_age(spool.directory) is not None)
    finally:
        stop.set()
        thread.join()
    assert heartbeat_age(spool.directory) is None
