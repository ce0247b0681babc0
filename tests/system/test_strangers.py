"""Whoever finds the address can connect, and knows no key. Nothing that they do is felt by a good post."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPResponse
from pathlib import Path
from statistics import median

import pytest

from tests.conftest import wait_until
from tests.system.conftest import FORM, Answer, Sender, Service, dev_body
from tests.system.faults import Load, assert_nothing_lost_or_doubled, metric, processes, running, total
from tests.system.test_faults_pressure import RESIDENT_BYTES, resident

ENGINE = "sqlite"

SECONDS = 3
FELT_SECONDS = 1.0  # by half of the posts; a machine that runs tests delays single ones by more
HEAD_SECONDS = 10  # for a head, or for silence on a new connection
STRANGER = Path(__file__).with_name("stranger.py")


@pytest.fixture(scope="module")
def besieged(new_database_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    """A service that meets one kind of strangers after the other."""
    with running(new_database_url(), tmp_path_factory.mktemp("besieged")) as made:
        yield made


@contextmanager
def strangers(service: Service, kind: str, count: int) -> Iterator[None]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    command = [sys.executable, str(STRANGER), kind, str(service.port), str(count)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)),
    ) as process:
        assert process.stdout.readline() == b"at it\n"
        yield
        assert process.poll() is None, "the strangers gave up, so nothing is shown"
        process.kill()


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("endless_head", 4),
        ("endless_head", 32),
        ("silence", 2100),
        ("slow_head", 1500),
        ("wrong_secrets", 300),
        ("unwanted_body", 4000),
    ],
)
def test_strangers_are_not_felt(besieged: Sender, kind: str, count: int) -> None:
    service = besieged.service
    besieged.forget()
    before, logged = service.workers(), len(service.stderr.splitlines())
    most = 0
    with (
        strangers(service, kind, count),
        Load(besieged, "kept", threads=4, pause=0.05) as kept,
        Load(besieged, "single", threads=4, pause=0.05, keep_alive=False) as single,
    ):
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            most = max(most, resident(service))
            time.sleep(0.5)
    sent = [*kept.posts, *single.posts]
    posts = [post for post in sent if post.status != 503]
    assert len(posts) > 30
    assert len(sent) - len(posts) <= len(sent) / 100  # told to come again, while thousands connect at once
    assert [post for post in posts if post.status != 200 or post.verdict == "spooled"] == []
    assert median(post.seconds for post in posts) < FELT_SECONDS
    assert service.workers() == before
    assert 0 < most < RESIDENT_BYTES
    assert len(service.stderr.splitlines()) - logged < 100
    assert_nothing_lost_or_doubled(besieged, posts)


def answer_to(service: Service, sent: bytes, *, ends: bool = False, seconds: float = 30) -> tuple[int, bytes]:
    """The status and body for these very bytes; `ends` closes our side behind them. 0 where there is no answer."""
    with closing(socket.create_connection(("127.0.0.1", service.port), timeout=seconds)) as connection:
        connection.sendall(sent)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        response = HTTPResponse(connection)
        try:
            response.begin()
        except OSError:
            return 0, b""
        return response.status, response.read()


def refused(service: Service, reason: str) -> float:
    text = service.request("GET", "/metrics").body.decode()
    return total("\n".join(line for line in text.splitlines() if f'reason="{reason}"' in line), "plum_refused_total")


def head_of(sender: Sender, *lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"POST {sender.path} HTTP/{version}", "Host: a", *lines, "", ""]).encode()


@pytest.mark.parametrize("bytes_sent", [b"", b"POST /result/x HTTP/1.1\r\nHo"], ids=["nothing", "half a head"])
def test_a_head_has_to_be_whole_in_some_seconds(service: Service, bytes_sent: bytes) -> None:
    with closing(socket.create_connection(("127.0.0.1", service.port), timeout=HEAD_SECONDS + 5)) as connection:
        connection.sendall(bytes_sent)
        answer = connection.recv(100)
    assert answer == b"" if not bytes_sent else answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "head, reason, status",
    [
        (["Content-Type: a/b", "Content-Type: c/d", "Content-Length: 0"], "malformed", 400),
        (["Content-Length: 1", "Content-Length: 2"], "malformed", 400),
        (["Content-Length: many"], "malformed", 400),
        (["Transfer-Encoding: odd"], "transfer_coding", 501),
        (["no header at all"], "malformed", 400),
        (["Expect: 200-maybe", "Content-Length: 0"], "expectation", 417),
        ([f"X-{number}: a" for number in range(2000)], "large_head", 431),
        (["X-Long: " + "a" * 40_000], "large_head", 431),
    ],
)
def test_requests_that_the_server_refuses_are_counted_and_not_quoted(
    service: Service, head: list[str], reason: str, status: int
) -> None:
    service.secrets |= {"6175550000", "hush"}
    before = refused(service, reason)
    secret = ["Authorization: Bearer hush", "X-Original-URI: /?phone=6175550000"]
    assert answer_to(service, head_of(service.one, *secret, *head))[0] == status
    wait_until(lambda: refused(service, reason) == before + 1)
    assert "hush" not in service.stderr
    assert service.one.key not in service.stderr


def test_a_line_that_is_no_request_line_reaches_no_log(service: Service) -> None:
    service.secrets.add("6175550001")
    for line in (f"POST {service.one.path} 6175550001", f"post {service.one.path} HTTP/1.1", "\x16\x03\x01"):
        assert answer_to(service, f"{line}\r\n\r\n".encode())[0] == 400
    assert answer_to(service, f"GET /{'6175550001' * 1000} HTTP/1.1\r\n\r\n".encode())[0] == 414
    assert "6175550001" not in service.stderr
    assert service.one.key not in service.stderr


@pytest.mark.parametrize("path", ["/result", "/result/", "/start/", "/nowhere", "/result/k/odd/path"])
def test_a_post_to_an_unknown_url_is_counted(service: Service, path: str) -> None:
    before = refused(service, "unknown_url")
    assert service.request("POST", path, b"result=Completed").status == 404
    wait_until(lambda: refused(service, "unknown_url") == before + 1)


# --- bodies whose end is not told


@pytest.mark.parametrize(
    ("version", "header", "pause"),
    [
        ("1.0", "Accept: */*", 0),
        ("1.0", "Accept: */*", 0.6),
        ("1.1", "Accept: */*", 0),
        ("1.1", "Accept: */*", 0.05),
        ("1.1", "Connection: close", 0.6),
    ],
)
def test_a_body_without_a_length_is_refused_and_not_taken_for_a_probe(
    service: Service, sender: Sender, version: str, header: str, pause: float
) -> None:
    with closing(socket.create_connection(("127.0.0.1", service.port), timeout=10)) as connection:
        connection.sendall(head_of(sender, header, version=version))
        time.sleep(pause)
        connection.sendall(dev_body())
        assert connection.recv(100).startswith(b"HTTP/1.1 411 ")
    sender.assert_nothing_stored()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_empty_post_without_a_length_is_a_probe(service: Service, sender: Sender, version: str) -> None:
    assert answer_to(service, head_of(sender, "Connection: close", version=version)) == (200, b"completed")
    assert answer_to(service, head_of(sender, "Connection: close", version=version), ends=True)[0] == 200
    sender.assert_nothing_stored()


def test_a_request_that_follows_at_once_is_no_body(service: Service, sender: Sender) -> None:
    with closing(socket.create_connection(("127.0.0.1", service.port), timeout=10)) as connection:
        connection.sendall(head_of(sender) + b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: connection.recv(1000), b""))
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.endswith(b"alive\n")


@pytest.mark.parametrize(
    "ending", [b"", b"5\r\nab", b"zz\r\nmore", b"-1\r\n"], ids=["nothing", "half", "bad", "minus"]
)
def test_the_received_part_of_an_incomplete_chunked_body_is_kept(
    service: Service, sender: Sender, ending: bytes
) -> None:
    body = dev_body()
    head = head_of(sender, "Transfer-Encoding: chunked", f"Content-Type: {FORM}")
    sent = head + f"{len(body):x}\r\n".encode() + body + b"\r\n" + ending
    assert answer_to(service, sent, ends=True)[0] in (400, 0)
    wait_until(lambda: len(sender.deliveries()) == 1)
    [delivery] = sender.deliveries()
    assert (delivery["verdict"], delivery["reason"]) == ("quarantined", "cut_short")
    assert sender.body_of(delivery["id"]).startswith(body)
    assert sender.outcomes() == []


def test_a_large_chunked_body_arrives_whole(sender: Sender) -> None:
    body = dev_body(note="x" * 900_000)
    pieces = [body[at : at + 7001] for at in range(0, len(body), 7001)]
    answer = sender.service.request("POST", sender.path, iter(pieces), {"Content-Type": FORM})
    assert isinstance(answer, Answer)
    answer.assert_completed()
    [delivery] = sender.deliveries()
    assert sender.body_of(delivery["id"]) == body


# --- metrics that have no place to be


def test_nothing_that_happens_to_temporary_files_costs_a_post_a_worker_or_a_count(alone: Sender) -> None:
    service = alone.service
    temporary = Path(service.settings["TMPDIR"])
    for _ in range(3):
        alone.assert_accepted(dev_body(call_id=None))
    assert list(temporary.iterdir()) == [], "something is left there that can be cleaned away"
    temporary.rmdir()
    for worker in service.workers():
        os.kill(worker, signal.SIGKILL)
        service.wait_for_workers(2, without=worker)
    temporary.mkdir()
    assert metric(service, "plum_deliveries_total") == 3
    alone.assert_accepted(dev_body(call_id=None))
    assert [answer.status for answer in service.through_each_worker("GET", "/metrics")] == [200, 200]
    assert metric(service, "plum_deliveries_total") == 4


def test_counters_go_on_over_many_workers_and_files_do_not_grow(alone: Sender) -> None:
    service = alone.service
    files = len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))
    for number in range(12):
        alone.assert_accepted(dev_body(call_id=None))
        worker = service.workers()[0]
        os.kill(worker, signal.SIGKILL)
        service.wait_for_workers(2, without=worker)
        assert metric(service, "plum_deliveries_total") == number + 1
    assert len(list(Path(f"/proc/{service.process.pid}/fd").iterdir())) <= files + 2


def test_a_worker_that_cannot_start_is_tried_again(alone: Sender) -> None:
    """gunicorn ends the whole service for a worker that fails to boot."""
    service = alone.service
    database = service.directory / "spool"
    hidden = database.with_name("hidden")
    database.rename(hidden)
    database.write_text("in the way")
    worker = service.workers()[0]
    os.kill(worker, signal.SIGKILL)
    time.sleep(2)
    database.unlink()
    hidden.rename(database)
    service.wait_for_workers(2, without=worker)
    alone.assert_accepted(dev_body())
    assert processes(service)


def test_counters_go_on_over_a_reload(alone: Sender) -> None:
    service = alone.service
    for number in range(3):
        alone.assert_accepted(dev_body(call_id=None))
        before = set(service.workers())
        os.kill(service.process.pid, signal.SIGHUP)
        wait_until(lambda before=before: len(service.workers()) == 2 and before.isdisjoint(service.workers()), 30)
        counts = {
            total(answer.body.decode(), "plum_deliveries_total")
            for answer in service.through_each_worker("GET", "/metrics")
        }
        assert counts == {number + 1}
