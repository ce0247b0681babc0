"""Live: what happens is told, once, to whom it may concern, and nothing is lost over breaks."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import wait_until
from tests.system.conftest import REVOKED_SECONDS, STOP_SECONDS, Sender, Service, dev_body
from tests.system.faults import running, wait_until_gone


class Listener:
    """A client of `/api/v1/live` on a connection of its own, reading in a thread."""

    def __init__(self, service: Service, token: str | None = None, last: str | None = None, query: str = "") -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.last = last
        self.head = b""
        self.is_whole = False  # ended by the server, properly
        self._socket = socket.create_connection(("127.0.0.1", service.port), timeout=60)
        lines = [f"GET /api/v1/live{query} HTTP/1.1", "Host: a", f"Authorization: Bearer {token or service.token}"]
        if last:
            lines.append(f"Last-Event-ID: {last}")
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._file = self._socket.makefile("rb")
        while (line := self._file.readline()) not in (b"\r\n", b""):
            self.head += line
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        rest = b""
        try:
            while size := int(self._file.readline().strip() or b"0", 16):
                rest += self._file.read(size)
                self._file.readline()
                *blocks, rest = rest.split(b"\n\n")
                for block in blocks:
                    self._take(dict(line.split(": ", 1) for line in block.decode().split("\n")))
            self.is_whole = self._file.readline() == b"\r\n"
        except (OSError, ValueError):
            pass

    def _take(self, fields: dict[str, str]) -> None:
        self.last = fields.get("id", self.last)
        if "data" in fields:
            self.events.append((fields["id"], json.loads(fields["data"])))

    @property
    def calls(self) -> list[str]:
        return [record["call_id"] for _, record in self.events]

    @property
    def is_open(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        if self.is_open:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join()
        self._file.close()
        self._socket.close()


@contextmanager
def listening(service: Service, *args: Any, **options: Any) -> Iterator[Listener]:
    listener = Listener(service, *args, **options)
    try:
        assert listener.head.startswith(b"HTTP/1.1 200"), listener.head
        yield listener
    finally:
        listener.close()


def post(sender: Sender, call: str, **changes: object) -> None:
    sender.post(dev_body(call_id=call, **changes)).assert_completed()


def test_each_new_or_changed_outcome_is_sent_as_its_record(sender: Sender) -> None:
    service = sender.service
    post(sender, "before")
    with listening(service) as listener:
        assert b"content-type: text/event-stream" in listener.head.lower()
        post(sender, "a")
        wait_until(lambda: listener.calls == ["a"])
        post(sender, "a", attempts="2")
        wait_until(lambda: listener.calls == ["a", "a"])
        sender.post(b"hello").assert_completed()
        post(sender, "b")
        wait_until(lambda: listener.calls == ["a", "a", "b"])
        assert [record["attempts"] for _, record in listener.events] == [1, 2, 1]
        assert listener.events[-1][1] == sender.outcome(call_id="b")
        assert len({key for key, _ in listener.events}) == 3


def test_a_stream_is_taken_up_where_it_broke_off(sender: Sender) -> None:
    service = sender.service
    with listening(service) as listener:
        for call in "abc":
            post(sender, call)
        wait_until(lambda: listener.calls == ["a", "b", "c"])
    post(sender, "d")
    for at, (key, _) in enumerate(listener.events):
        with listening(service, last=key) as again:
            expected = ["a", "b", "c", "d"][at + 1 :]
            wait_until(lambda again=again, expected=expected: again.calls == expected)
    with listening(service, last=listener.last) as again:
        wait_until(lambda: again.calls == ["d"])
        post(sender, "e")
        wait_until(lambda: again.calls == ["d", "e"])


def test_a_stream_that_broke_before_its_first_event_loses_nothing(sender: Sender) -> None:
    with listening(sender.service) as listener:
        wait_until(lambda: listener.last is not None)
    post(sender, "meanwhile")
    with listening(sender.service, last=listener.last) as again:
        wait_until(lambda: again.calls == ["meanwhile"])


def test_phones_are_masked_with_the_scope_read(sender: Sender) -> None:
    with listening(sender.service, sender.service.read_token) as masked, listening(sender.service) as whole:
        post(sender, "a")
        wait_until(lambda: masked.calls == whole.calls == ["a"])
        assert masked.events[0][1]["phone_number"] == "+1617•••1234"
        assert whole.events[0][1]["phone_number"] == "+16175551234"


def test_filters_select_the_events(sender: Sender) -> None:
    with (
        listening(sender.service, query="?status=failed&integration=one") as failed,
        listening(sender.service) as every,
    ):
        post(sender, "a")
        post(sender, "b", result="Failed", callee_type="busy")
        wait_until(lambda: every.calls == ["a", "b"] and failed.calls == ["b"])


@pytest.mark.parametrize("mark", ["x", "W10", "WzEsMixbXSwzLFtdLDAsMF0", "é"])
def test_an_id_that_is_not_ours_is_refused_in_words(service: Service, mark: str) -> None:
    headers = {"Authorization": f"Bearer {service.token}", "Last-Event-ID": mark.encode().decode("latin-1")}
    service.request("GET", "/api/v1/live", None, headers).assert_problem(422, "Last-Event-ID")


def test_unsupported_parameters_of_a_stream_are_refused_with_a_message(service: Service) -> None:
    service.request("GET", "/api/v1/live").assert_problem(401)
    service.get("live", limit=5, nonsense=1).assert_problem(422, "limit", "nonsense")
    service.get("live", service.read_token, phone_number="+16175551234").assert_problem(403)


def test_revoking_the_token_ends_its_streams(service: Service) -> None:
    token = service.new_token("live-revoked", "read")
    with listening(service, token) as revoked, listening(service) as other:
        service.ok("token", "revoke", "live-revoked")
        wait_until(lambda: not revoked.is_open, REVOKED_SECONDS)
        assert revoked.is_whole
        assert other.is_open


def test_concurrent_and_late_writers_are_all_sent_once(service: Service, sender: Sender, engine_name: str) -> None:
    """On PostgreSQL a transaction that somebody holds open delays nobody and is told once it commits."""
    if engine_name != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    url = service.database_url.replace("+psycopg", "")
    with psycopg.connect(url) as held, listening(service) as listener:
        post(sender, "late")
        wait_until(lambda: listener.calls == ["late"])
        # As ingest does, but slowly: the change is noted in a transaction that stays open.
        held.execute(
            "INSERT INTO changes (id, changed_at, outcome_ids) SELECT pg_current_xact_id()::text::bigint, "
            "now(), decode(replace(id::text, '-', ''), 'hex') FROM outcomes "
            f"WHERE call_id = 'late' AND integration = '{sender.name}'"
        )
        threads = [
            threading.Thread(target=lambda writer=writer: [post(sender, f"{writer}-{n}") for n in range(20)])
            for writer in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = {f"{writer}-{n}" for writer in range(4) for n in range(20)}
        wait_until(lambda: set(listener.calls) == {*expected, "late"})
        last = listener.last
        held.commit()
        wait_until(lambda: listener.calls.count("late") == 2)
        assert len(listener.calls) == 82
    with listening(service, last=last) as again:
        wait_until(lambda: again.calls == ["late"])


# --- a service of its own, to be stopped


@pytest.fixture
def own(new_database_url: Callable[[], str], tmp_path: Path) -> Iterator[Sender]:
    with running(new_database_url(), tmp_path) as sender:
        yield sender


def test_a_worker_that_dies_breaks_its_streams_and_loses_none_of_their_events(own: Sender) -> None:
    service = own.service
    with listening(service) as first:
        post(own, "a")
        wait_until(lambda: first.calls == ["a"])
        workers = service.workers()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not first.is_open)
        assert not first.is_whole
    wait_until(lambda: len(service.workers()) == 2 and not set(workers) & set(service.workers()), 30)
    service.through_each_worker("GET", "/livez")
    post(own, "b")
    with listening(service, last=first.last) as again:
        wait_until(lambda: again.calls == ["b"])
        post(own, "c")
        wait_until(lambda: again.calls == ["b", "c"])


def test_a_client_that_has_caught_up_with_old_changes_need_not_do_so_again(own: Sender) -> None:
    service = own.service
    with listening(service) as listener:
        wait_until(lambda: listener.last)
    post(own, "a")
    _make_older(service, days=6)
    with listening(service, last=listener.last) as resumed:
        wait_until(lambda: resumed.calls == ["a"] and resumed.last != resumed.events[0][0])
    _make_older(service, days=2)
    post(own, "b")
    service.ok("prune")
    with listening(service, last=resumed.last) as again:
        wait_until(lambda: again.calls == ["b"])


def test_a_stream_whose_missed_changes_are_forgotten_meanwhile_breaks_off(own: Sender) -> None:
    """A client may read so slowly that the journal is pruned before it has caught up."""
    service = own.service
    with listening(service) as listener:
        wait_until(lambda: listener.last)
    for call in "abc":
        post(own, call)
    _make_older(service, days=8)
    service.ok("prune")
    with listening(service, last=listener.last) as resumed:
        wait_until(lambda: not resumed.is_open)
    assert not resumed.is_whole


def _make_older(service: Service, days: int) -> None:
    """As if the changes had been made so many days earlier."""
    older = f"changed_at - interval '{days} days'"
    if service.database_url.startswith("sqlite"):
        older = f"strftime('%Y-%m-%d %H:%M:%f000', changed_at, '-{days} days')"
    with service.sql() as connection:
        connection.execute(f"UPDATE changes SET changed_at = {older}")


def test_sigterm_ends_open_streams_and_all_processes_in_time(own: Sender) -> None:
    service = own.service
    with ExitStack() as stack:
        listeners = [stack.enter_context(listening(service)) for _ in range(40)]
        assert service.request("GET", "/readyz").status == 200
        post(own, "a")
        wait_until(lambda: all(listener.calls == ["a"] for listener in listeners))
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not any(listener.is_open for listener in listeners), 5)
        assert all(listener.is_whole for listener in listeners)
        wait_until_gone(service, STOP_SECONDS)
