"""What the spool acknowledged it keeps: whole, checked, and apart from what was torn."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import StoreUnavailable
from app.intake import spool as spool_module
from app.intake.spool import Spool
from app.model import Delivery, Product, Via

text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
deliveries = st.builds(
    Delivery,
    id=st.uuids(),
    integration=text,
    product=st.sampled_from([None, *Product]),
    received_at=st.datetimes(timezones=st.just(UTC)),
    via=st.just(Via.SPOOL),
    content_type=st.none() | text,
    headers=st.lists(st.tuples(text, text), max_size=3).map(tuple),
    query=text,
    remote_addr=st.none() | text,
    reference=st.none() | text,
    batch=st.none() | text,
    cut_short=st.booleans(),
    body=st.binary(max_size=200),
)


def delivery(body: bytes = b"result=Completed") -> Delivery:
    return Delivery(
        id=uuid4(), integration="i", received_at=datetime(2026, 3, 8, tzinfo=UTC), body=body, via=Via.SPOOL
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(deliveries, min_size=1, max_size=5))
def test_what_goes_in_comes_out(tmp_path, group) -> None:
    spool = Spool(tmp_path / str(uuid4()))
    spool.append(group)
    [file] = spool.files()
    assert spool.read(file) == (group, True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_torn_or_altered_file_gives_the_records_before_and_never_a_wrong_one(tmp_path, at, byte) -> None:
    spool = Spool(tmp_path / str(uuid4()))
    group = [delivery(b"a" * 50), delivery(b"b" * 50), delivery(b"c" * 50)]
    spool.append(group)
    [file] = spool.files()
    content = file.read_bytes()
    at %= len(content)
    file.write_bytes(content[:at])
    found, _ = spool.read(file)
    assert found == group[: len(found)]
    file.write_bytes(content[:at] + bytes([byte]) + content[at + 1 :])
    found, whole = spool.read(file)
    assert found == group[: len(found)]
    assert whole == (content[at] == byte)


def test_files_are_drained_oldest_first_and_counted(tmp_path) -> None:
    spool = Spool(tmp_path)
    for size in (1, 2, 3):
        spool.append([delivery() for _ in range(size)])
    assert [len(spool.read(file)[0]) for file in spool.files()] == [1, 2, 3]
    backlog = spool.backlog()
    assert backlog.deliveries == 6
    assert backlog.size_bytes == sum(file.stat().st_size for file in spool.files())
    assert backlog.oldest_seconds >= 0
    spool.remove(spool.files())
    assert spool.backlog().deliveries == 0


def test_a_file_is_fsynced_and_then_its_directory(tmp_path, monkeypatch) -> None:
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(Path(f"/proc/self/fd/{fd}").resolve()), real(fd)))
    Spool(tmp_path).append([delivery()])
    assert [path.suffix for path in synced] == [".unfinished", ""]
    assert synced[1] == tmp_path


def test_a_full_disk_refuses_and_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool_module.os, "fsync", full)
    with pytest.raises(StoreUnavailable, match="No space left"):
        Spool(tmp_path).append([delivery()])
    assert list(tmp_path.iterdir()) == []


def test_no_more_than_a_megabyte_is_kept_free(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(spool_module, "_free", lambda _: (1 << 20) - 1)
    with pytest.raises(StoreUnavailable, match="full"):
        Spool(tmp_path).append([delivery()])
    monkeypatch.setattr(spool_module, "_free", lambda _: 1 << 20)
    Spool(tmp_path).append([delivery()])
    assert spool_module.MIN_FREE_BYTES <= 1 << 20


def test_a_file_whose_writer_died_is_drained_once_it_is_surely_abandoned(tmp_path) -> None:
    spool = Spool(tmp_path)
    spool.append([delivery()])
    [file] = spool.files()
    left = file.rename(file.with_suffix(".unfinished"))
    assert spool.files() == []
    os.utime(left, (0, 0))
    assert spool.files() == [left]
