"""What the spool acknowledged it keeps: whole, checked, and apart from what was torn."""

from __future__ import annotations

import os
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import StoreUnavailable
from app.intake import spool as spool_module
from app.intake import spool_segments
from app.intake.spool import ASIDE, Spool
from app.intake.spool_records import packed, records
from app.model import Delivery, Product, Via

text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
deliveries = st.builds(
    Delivery,
    id=st.uuids(),
    integration=text,
    product=st.sampled_from([None, *Product]),
    received_at=st.datetimes(min_value=datetime(1980, 1, 1), timezones=st.just(UTC)),
    via=st.just(Via.SPOOL),
    content_type=st.none() | text,
    headers=st.lists(st.tuples(text, text), max_size=3).map(tuple),
    query=text,
    remote_addr=st.none() | text,
    reference=st.none() | text,
    batch=st.none() | text,
    cut_short=st.booleans(),
    body=st.binary(max_size=200) | st.just(b"PLM1" * 20),
)


def delivery(body: bytes = b"result=Completed") -> Delivery:
    return Delivery(
        id=uuid4(), integration="i", received_at=datetime(2026, 3, 8, tzinfo=UTC), body=body, via=Via.SPOOL
    )


def waiting(spool: Spool) -> list[Delivery]:
    return [one for piece in spool.pieces() for one in piece.deliveries]


def drain(spool: Spool) -> list[Delivery]:
    found = []
    for piece in spool.pieces():
        found += piece.deliveries
        spool.drained(piece)
    return found


def files(spool: Spool) -> list[Path]:
    return sorted(file for file in spool.directory.iterdir() if file.is_file())


def aside(spool: Spool) -> list[Path]:
    return sorted((spool.directory / ASIDE).glob("*"))


def of_the_last_release(spool: Spool, group: list[Delivery], suffix: str = ".spool", number: int = 1) -> Path:
    """A file as it wrote them: a group of records whose envelopes have no version."""
    written = []
    for one in group:
        content = packed(one).replace(b'"version": 1, ', b"", 1)
        magic, envelope, body, _ = struct.unpack_from(">4sIII", content)
        rest = content[16:]
        written.append(struct.pack(">4sIII", magic, envelope - 14, body, zlib.crc32(rest)) + rest)
    spool.directory.mkdir(exist_ok=True)
    file = spool.directory / f"{number:020d}-17-{number}-{len(group)}{suffix}"
    file.write_bytes(b"".join(written))
    return file


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(deliveries, min_size=1, max_size=3), min_size=1, max_size=3))
def test_appended_deliveries_are_drained_once_in_order(tmp_path, groups) -> None:
    spool = Spool(tmp_path / str(uuid4()))
    for group in groups:
        spool.append(group)
    assert len(files(spool)) == 1
    assert drain(spool) == [one for group in groups for one in group]
    assert files(spool) == waiting(spool) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_torn_or_altered_file_costs_at_most_the_record_it_meets(tmp_path, at, byte) -> None:
    spool = Spool(tmp_path / str(uuid4()))
    group = [delivery(b"a" * 50), delivery(b"b" * 50), delivery(b"c" * 50)]
    spool.append(group)
    [file] = files(spool)
    content = file.read_bytes()
    at %= len(content)
    file.write_bytes(content[:at])
    assert waiting(spool) == group[: len(waiting(spool))]
    file.write_bytes(content[:at] + bytes([byte]) + content[at + 1 :])
    found = drain(spool)
    assert len(found) >= 2
    assert [one for one in group if one in found] == found
    assert b"".join(one.read_bytes() for one in aside(spool)) in content[:at] + bytes([byte]) + content[at + 1 :]


def test_a_record_behind_damage_is_found_though_lengths_are_lost() -> None:
    first, second = packed(delivery(b"x PLM1 x")), packed(delivery())
    for at in range(16):
        altered = bytearray(first)
        altered[at] ^= 0xFF
        found = list(records(bytes(altered) + second))
        assert [one.delivery is not None for one in found] == [False, True]
        assert found[0].end == found[1].start == len(first)


def test_a_body_never_parses_as_a_record() -> None:
    forged = packed(delivery(b"forged"))
    content = bytearray(packed(delivery(forged)) + packed(delivery(b"next")))
    content[20] ^= 0xFF
    assert [one.delivery.body for one in records(bytes(content)) if one.delivery] == [b"next"]


def test_a_torn_tail_costs_nothing_that_is_appended_later(tmp_path, monkeypatch) -> None:
    """Even where it could not be cut off."""
    spool, other = Spool(tmp_path), Spool(tmp_path)
    first, later, others = delivery(), delivery(), delivery()
    spool.append([first])
    [file] = files(spool)
    with file.open("ab") as torn:
        torn.write(packed(delivery())[:-9])
    spool.append([later])
    other.append([others])
    assert sorted(drain(spool)) == sorted([first, later, others])
    assert len(aside(spool)) == 1


def test_an_envelope_of_a_newer_program_is_kept_for_it(tmp_path, monkeypatch) -> None:
    spool = Spool(tmp_path)
    monkeypatch.setattr("app.intake.spool_records.VERSION", 2)
    spool.append([newer := delivery()])
    monkeypatch.undo()
    assert drain(spool) == []
    for _ in range(2):  # starts
        assert spool.retry() == 0
        assert drain(spool) == []
    assert spool.backlog().aside == 1
    monkeypatch.setattr("app.intake.spool_records.VERSION", 2)
    spool.retry()
    assert drain(spool) == [newer]


def test_the_backlog_is_counted_without_reading_records(tmp_path, monkeypatch) -> None:
    spool = Spool(tmp_path)
    for size in (1, 2, 300):
        spool.append([delivery() for _ in range(size)])
    monkeypatch.setattr("app.intake.spool_records._record", None)
    backlog = spool.backlog()
    assert (backlog.deliveries, backlog.aside) == (303, 0)
    assert backlog.size_bytes == sum(file.stat().st_size - spool_segments.HEADER_BYTES for file in files(spool))
    assert 0 <= backlog.oldest_seconds < 60
    monkeypatch.undo()
    spool.drained(next(spool.pieces()))
    assert spool.backlog().deliveries == 103
    assert spool.backlog().size_bytes < backlog.size_bytes
    drain(spool)
    assert spool.backlog() == spool_module.Backlog(0, 0, 0.0, 0)


def test_two_hundred_thousand_deliveries_are_a_few_files(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    spool = Spool(tmp_path)
    for _ in range(400):
        spool.append([delivery(b"x" * 100)] * 500)
    assert spool.backlog().deliveries == 200_000
    assert len(files(spool)) < 20
    assert max(file.stat().st_size for file in files(spool)) <= spool_segments.MAX_BYTES


def test_draining_continues_where_it_stopped(tmp_path) -> None:
    spool = Spool(tmp_path)
    sent = [delivery() for _ in range(500)]
    spool.append(sent)
    spool.drained(next(spool.pieces()))
    assert waiting(Spool(tmp_path)) == sent[200:]


def test_undrained_deliveries_are_found_in_spite_of_a_damaged_header(tmp_path) -> None:
    spool = Spool(tmp_path)
    sent = [delivery() for _ in range(500)]
    spool.append(sent)
    spool.drained(next(spool.pieces()))
    [file] = files(spool)
    content = bytearray(file.read_bytes())
    content[28] ^= 0x40  # of where the drained ends
    file.write_bytes(content)
    assert waiting(spool) == sent


def test_deliveries_appended_while_their_segment_is_drained_are_kept(tmp_path) -> None:
    spool = Spool(tmp_path)
    sent = [delivery() for _ in range(3)]
    spool.append(sent[:1])
    [piece] = spool.pieces()
    spool.append(sent[1:2])
    spool.drained(piece)
    assert waiting(spool) == sent[1:2]
    drain(spool)
    spool.append(sent[2:])
    assert drain(spool) == sent[2:]


def test_neither_appending_nor_draining_waits_for_a_frozen_process(tmp_path) -> None:
    spool = Spool(tmp_path)
    spool.append([first := delivery()])
    [file] = files(spool)
    with spool_segments._locked(file, os.O_RDWR):
        spool.append([second := delivery()])
        assert waiting(spool) == [second]
    assert sorted(waiting(spool)) == sorted([first, second])


def test_a_group_is_fsynced_and_with_a_new_file_its_directory(tmp_path, monkeypatch) -> None:
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(Path(f"/proc/self/fd/{fd}").resolve()), real(fd)))
    spool = Spool(tmp_path)
    spool.append([delivery()])
    spool.append([delivery()])
    assert [path.suffix for path in synced] == [".unfinished", "", ".segment"]
    assert synced[1] == tmp_path


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_refuses_leaves_nothing_behind_and_hurts_nothing_before(tmp_path, monkeypatch, failing) -> None:
    def full(descriptor, *content):
        for one in content:  # some of it goes in before the disk is full
            os.pwrite(descriptor, one[:7], os.fstat(descriptor).st_size)
        raise OSError(28, "No space left on device")

    spool = Spool(tmp_path)
    for kept in ([], [delivery()]):
        if kept:
            spool.append(kept)
        monkeypatch.setattr(spool_segments.os, failing, full)
        with pytest.raises(StoreUnavailable, match="No space left") as refusal:
            spool.append([delivery()])
        assert str(tmp_path) not in str(refusal.value)
        assert str(tmp_path) in refusal.value.detail
        monkeypatch.undo()
        assert len(files(spool)) == len(kept)
        assert waiting(spool) == kept
    spool.append([later := delivery()])
    assert drain(spool) == [*kept, later]
    assert aside(spool) == []


def test_no_more_than_a_megabyte_is_kept_free(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(spool_module, "_free", lambda _: (1 << 20) - 1)
    with pytest.raises(StoreUnavailable, match="No space"):
        Spool(tmp_path).append([delivery()])
    monkeypatch.setattr(spool_module, "_free", lambda _: 1 << 20)
    Spool(tmp_path).append([delivery()])
    assert spool_module.MIN_FREE_BYTES <= 1 << 20


def test_files_of_the_last_release_are_drained_and_counted(tmp_path) -> None:
    spool = Spool(tmp_path)
    sent = [delivery() for _ in range(6)]
    for number, start in enumerate((0, 1, 3)):
        of_the_last_release(spool, sent[start : 2 * start + 1 if start else 1], number=number)
    unfinished = of_the_last_release(spool, sent, ".unfinished", number=7)
    assert spool.backlog().deliveries == 1 + 2 + 4 - 1
    assert drain(spool)[:3] == sent[:3]
    assert files(spool) == [unfinished]
    os.utime(unfinished, (0, 0))
    assert drain(spool) == sent
    assert files(spool) == []


def test_files_set_aside_are_retried_by_the_command(tmp_path) -> None:
    spool = Spool(tmp_path)
    refused, old = delivery(), delivery()
    spool.append([refused])
    drain(spool)
    spool.set_aside([refused])
    of_the_last_release(spool, [old]).rename(spool.directory / ASIDE / "1-2.spool")
    assert (waiting(spool), spool.backlog().aside) == ([], 2)
    assert spool.retry() == 2
    assert sorted(drain(spool)) == sorted([refused, old])
    assert spool.backlog().aside == 0


def test_garbage_alarms_until_it_was_tried_again_and_an_empty_file_never(tmp_path, caplog) -> None:
    spool = Spool(tmp_path)
    for name, content in {"a.segment": b"", "b.segment": b"garbage" * 99, "c.spool": bytes(range(256))}.items():
        (tmp_path / name).write_bytes(content)
    assert drain(spool) == files(spool) == []
    assert spool.backlog().aside == 2
    assert spool.retry() == 0
    assert drain(spool) == []
    assert spool.backlog().aside == 0
    assert sorted(one.read_bytes() for one in aside(spool)) == [bytes(range(256)), b"garbage" * 99]
    assert caplog.text.count("is empty") == 1


def test_an_unreadable_file_blocks_no_other_and_is_logged_once(tmp_path, caplog) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "0.segment").mkdir()
    spool.append([one := delivery()])
    assert drain(spool) == [one]
    assert drain(spool) == []
    assert caplog.text.count("0.segment") == 1


def test_one_file_that_cannot_be_tried_again_keeps_no_other_from_it(tmp_path, monkeypatch, caplog) -> None:
    spool = Spool(tmp_path)
    spool.set_aside([delivery()])
    (tmp_path / "aside" / "0.damaged").write_bytes(b"x")
    read_bytes = Path.read_bytes

    def refuse(file: Path) -> bytes:
        if file.suffix == ".damaged":
            raise PermissionError(13, "Permission denied")
        return read_bytes(file)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert spool.retry() == 1
    assert "cannot be tried again: Permission denied" in caplog.text


def test_a_check_of_another_container_does_not_fail_this_one(tmp_path, monkeypatch) -> None:
    """In another container a process may have the same number, so both write the same probe."""
    write = spool_module.write_durably

    def write_while_the_other_checks(file: Path, content: bytes) -> None:
        write(file, content)
        monkeypatch.setattr(spool_module, "write_durably", write)
        Spool(tmp_path).check()

    monkeypatch.setattr(spool_module, "write_durably", write_while_the_other_checks)
    Spool(tmp_path).check()
    assert list(tmp_path.iterdir()) == []
