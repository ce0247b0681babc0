"""One small disk under store and spool: full, then freed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import skip_or_fail, wait_until
from tests.system.conftest import Service
from tests.system.faults import Load, assert_nothing_lost_or_doubled, running

DISK_BYTES = 16 << 20
BALLAST_BYTES = 8 << 20
RESERVE_BYTES = 1 << 20  # the contract's: while more is free, a delivery is taken
PADDING = 20_000
SLACK_BYTES = 256 << 10  # what a refused post had begun to write


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        skip_or_fail("a small disk is mounted only by root; run the tests as root, in a container for example")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        skip_or_fail(f"no disk can be mounted here: {done.stderr.strip()}; run the tests where mount is allowed")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def ready_says(service: Service, status: int) -> bool:
    return service.request("GET", "/readyz").status == status


def test_full_then_freed_without_a_restart(disk: Path, tmp_path: Path) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * BALLAST_BYTES)
    with running(f"sqlite:///{disk / 'outcomes.db'}", tmp_path, spool=disk / "spool") as sender:
        service = sender.service
        with Load(sender, "filling", padding=PADDING, pause=0.005) as load:
            wait_until(lambda: any(post.status == 503 for post in list(load.posts)), 30)
            left = free(disk)
            full = time.monotonic()
            wait_until(lambda: len(load.begun(full, full + 99)) > 50, 30)
            assert service.request("GET", "/livez").status == 200
            assert service.request("GET", "/metrics").status == 200
            # Each time that the store's connections are given up, its log is written back and leaves a little room.
            wait_until(lambda: ready_says(service, 503), 10)
            ready = service.request("GET", "/readyz")
            ballast.unlink()
            freed = time.monotonic()
            wait_until(lambda: sum(post.status == 200 for post in load.begun(freed, freed + 99)) > 20, 30)
        assert len(load.acknowledged) > 50
        assert {post.status for post in load.posts} == {200, 503}
        assert [post for post in load.posts if post.status == 503 and not post.retry_after] == []
        assert left <= RESERVE_BYTES + SLACK_BYTES, "refused though there was room"
        assert_nothing_lost_or_doubled(sender, load.acknowledged)
        wait_until(lambda: ready_says(service, 200))
        assert (ready.status, "full" in ready.body.decode() or "room" in ready.body.decode()) == (503, True), ready
