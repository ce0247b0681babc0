"""Analysts who do not read what they asked for: posts do not feel it, and memory stays bounded."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from pathlib import Path

from tests.conftest import wait_until
from tests.system.conftest import Sender
from tests.system.faults import Load
from tests.system.test_faults_pressure import resident

ENGINE = "sqlite"


def test_live_streams_that_nobody_reads_hold_little_and_are_closed(alone: Sender) -> None:
    service = alone.service
    request = f"GET /api/v1/live HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {service.token}\r\n\r\n".encode()
    with ExitStack() as stack:
        streams = [stack.enter_context(socket.create_connection(("127.0.0.1", service.port))) for _ in range(20)]
        for stream in streams:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stream.sendall(request)
        time.sleep(1)
        before = resident(service, with_copy=False)
        with Load(alone, "large", threads=4, pause=0.0, padding=100_000) as load:
            load.wait_for(800, 120)  # large ones, beside other tests
        assert resident(service, with_copy=False) - before < 180 << 20
        wait_until(lambda: _established(service.port) == 0, 120)
    assert [post for post in load.posts if post.status != 200] == []


def _established(port: int) -> int:
    """Connections to this port that the service still holds open."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(local.endswith(f":{port:04X}") and state == "01" for _, local, _, state, *_ in rows)
