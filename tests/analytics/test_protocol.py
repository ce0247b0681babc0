"""What passes between who asks and the copy's process."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app import errors
from app.analytics import client
from app.analytics.client import Remote
from app.analytics.protocol import Failed, Received, receive, send
from app.errors import CopyUnavailable
from app.store.journal import Horizon

HORIZON = Horizon(1, ())


def test_no_error_that_a_client_receives_loads_duckdb() -> None:
    failures = [Failed(kind("it failed")) for kind in (errors.Damaged, errors.TooSlow, errors.StoreUnavailable)]
    program = (
        "import pickle, sys; import app.analytics.protocol; "
        "pickle.load(sys.stdin.buffer); print('duckdb' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.check_output(command, input=pickle.dumps(failures)).strip() == b"False"


@contextmanager
def answering(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[Remote]:
    """A process that takes one question, and then does as `answer` says."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                receive(connection)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Remote(path, "store")
        thread.join()


def test_a_process_that_does_not_say_that_it_received_the_question_is_not_waited_for(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(client, "RECEIVED_SECONDS", 0.1)
    monkeypatch.setattr(client, "PATIENCE_SECONDS", 3600.0)
    with (
        answering(tmp_path / "sock", lambda connection: connection.recv(1)) as remote,
        pytest.raises(CopyUnavailable, match="does not respond"),
    ):
        remote.ask("count", (), HORIZON)


def test_an_answer_may_take_longer_than_its_receipt(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(client, "RECEIVED_SECONDS", 0.1)

    def slow(connection: socket.socket) -> None:
        send(connection, Received())
        time.sleep(0.3)
        send(connection, 42)

    with answering(tmp_path / "sock", slow) as remote:
        assert remote.ask("count", (), HORIZON) == 42
