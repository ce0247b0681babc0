"""Posts that were refused are kept within bounds, and come back as they came."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from app.intake import refused as ring
from app.intake.ndjson import read_line
from app.intake.refused import Refused
from app.model import Delivery, Integration, hashed

NOW = datetime(2026, 3, 8, tzinfo=UTC)


def delivery(body: bytes = b"result=Completed", **known: object) -> Delivery:
    return Delivery(id=uuid4(), integration="", received_at=NOW, body=body, **known)


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    return Refused(tmp_path)


def test_a_refused_post_is_kept_as_an_importable_delivery(refused: Refused) -> None:
    sent = delivery(
        b"\x00\xff odd \n bytes",
        content_type="text/plain",
        headers=(("A", "b"),),
        query="q=1",
        remote_addr="198.51.100.7",
        reference="r",
        started=True,
    )
    refused.keep(sent, "unknown_key", hashed("wrong"))
    [entry] = refused.entries()
    assert (entry["cause"], entry["key_sha256"]) == ("unknown_key", hashed("wrong").hex())
    line = ring.json.dumps(entry | {"integration": "i"}).encode()
    again = read_line(line, 1, {"i": Integration("i", None)}, datetime.now(UTC))
    assert again == sent._replace(integration="i", via=again.via)


def test_the_newest_stay_and_both_files_are_bounded(refused: Refused, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ring, "FILE_BYTES", 20_000)
    sent = [delivery(b"x" * 1000) for _ in range(200)]
    for one in sent:
        refused.keep(one, "unknown_key", b"")
    kept = [entry["id"] for entry in refused.entries()]
    assert kept == [str(one.id) for one in sent][-len(kept) :]
    assert len(kept) >= 12
    assert sum(file.stat().st_size for file in (tmp_path / ring.DIRECTORY).iterdir()) <= 40_000


def test_one_address_cannot_push_out_what_others_sent(refused: Refused, monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(ring.time, "monotonic", lambda: clock[0])
    loud = delivery(remote_addr="198.51.100.7")
    while refused.has_room("198.51.100.7"):
        refused.keep(loud, "unknown_key", b"")
    size = sum(len(ring.json.dumps(entry)) + 1 for entry in refused.entries())
    assert ring.OF_ADDRESS <= size < ring.OF_ADDRESS + 1000
    assert refused.has_room("198.51.100.8")
    clock[0] = ring.MINUTE_SECONDS
    assert refused.has_room("198.51.100.7")


def test_all_together_have_a_bound_too(refused: Refused) -> None:
    for number in range(40):
        if refused.has_room(str(number)):
            refused.keep(delivery(b"x" * ring.MAX_BODY_BYTES, remote_addr=str(number)), "unknown_key", b"")
    sizes = [len(ring.json.dumps(entry)) + 1 for entry in refused.entries()]
    assert sum(sizes[:-1]) < ring.OF_ALL <= sum(sizes)


def test_a_disk_that_does_not_take_it_costs_nothing(tmp_path: Path, caplog) -> None:
    (tmp_path / ring.DIRECTORY).write_text("in the way")
    refused = Refused(tmp_path)
    refused.keep(delivery(), "unknown_key", b"")
    assert "cannot be kept" in caplog.text


def test_removed_entries_are_gone_from_both_files_and_others_stay(refused: Refused, monkeypatch) -> None:
    monkeypatch.setattr(ring, "FILE_BYTES", 3_000)
    for number in range(8):
        refused.keep(delivery(b"body %d" % number), "unknown_key", b"")
    before = [entry["id"] for entry in refused.entries()]
    odd = [key for at, key in enumerate(before) if at % 2]
    assert refused.remove(lambda entry: entry["id"] in odd) == len(odd)
    assert [entry["id"] for entry in refused.entries()] == [key for key in before if key not in odd]
    refused.keep(last := delivery(b"more"), "unknown_key", b"")
    assert base64.b64decode(list(refused.entries())[-1]["body_base64"]) == last.body
    assert refused.remove(lambda entry: False) == 0


def test_adding_during_a_removal_breaks_nothing(refused: Refused) -> None:
    refused.keep(delivery(b"meant"), "unknown_key", b"")

    def meant(entry: dict) -> bool:
        Refused(refused._directory.parent).keep(delivery(b"added"), "unknown_key", b"")
        return True

    assert refused.remove(meant) == 1
    refused.keep(delivery(b"later"), "unknown_key", b"")
    assert [base64.b64decode(entry["body_base64"]) for entry in refused.entries()] == [b"later"]


def test_a_torn_line_costs_itself_alone(refused: Refused, tmp_path: Path) -> None:
    refused.keep(delivery(), "unknown_key", b"")
    with (tmp_path / ring.DIRECTORY / "newer.ndjson").open("ab") as file:
        file.write(b'{"id": "tor\n')
    refused.keep(delivery(), "unknown_key", b"")
    assert len(list(refused.entries())) == 2
