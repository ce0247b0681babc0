"""The simulator as Plum: a process that takes queue calls from our client, and posts their results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlencode
from urllib.request import Request, urlopen
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from app.cli import main
from app.plum.client import (
    BulkRequest,
    CallRequest,
    Client,
    Conflict,
    FateUnknown,
    NotPermitted,
    Refused,
    UnknownCall,
    UnknownDeployment,
    WrongCredentials,
    connect,
)
from app.plum.simulator.posting import Posting
from tests.conftest import wait_until

COMMAND = [sys.executable, "-m", "app.cli", "simulate", "--platform", "--bind", "127.0.0.1:0", "--json"]
NUMBERED = ["insight", "fuse"]
PRODUCTS = ["dev", *NUMBERED]


@dataclass
class Simulated:
    settings: dict[str, str]
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return self.settings["PLUM_DEV_URL"].removesuffix("/dev")

    def client(self, product: str, secret: str | None = None) -> Client:
        user, key = ("LOGIN", "PIN") if product == "dev" else ("USER", "KEY")
        of = {name: self.settings[f"PLUM_{product.upper()}_{name}"] for name in ("URL", user, key)}
        return connect(product, of["URL"], of[user], secret or of[key], per_second=1000)

    def truth(self) -> list[dict]:
        with urlopen(f"{self.url}/truth", timeout=10) as answer:
            return [json.loads(line) for line in answer]

    def posts(self) -> int:
        return sum(sum(one["posts"].values()) for one in self.truth())


@contextmanager
def simulated(*options: str) -> Iterator[Simulated]:
    with subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Simulated(json.loads(process.stdout.readline()), process)
        finally:
            process.terminate()
        assert process.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def plum() -> Iterator[Simulated]:
    """An hour a second."""
    with simulated("--seed", "7", "--speed", "3600") as made:
        yield made


class Receiver(ThreadingHTTPServer):
    """Answers GET as `probed` says; keeps what is posted, and acknowledges it unless it is mute."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, probed: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), Receipt)
        self.probed = probed
        self.is_mute = False
        self.posts: list[tuple[str, bytes]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A platform that a test ends while it posts hangs up; a traceback of that is written into
        what the next test reads of a command."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def url(self, path: str = "/result/K") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def bodies(self, path: str = "/result/K") -> list[bytes]:
        return [body for where, body in list(self.posts) if where == path]


class Receipt(BaseHTTPRequestHandler):
    server: Receiver

    def do_GET(self) -> None:
        self._answer(self.server.probed)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.path, body))
        wait_until(lambda: not self.server.is_mute, 60)
        self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"completed")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def receiver(probed: int = 200) -> Iterator[Receiver]:
    with Receiver(probed) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ours() -> Iterator[Receiver]:
    with receiver() as server:
        yield server


def terms(product: str, server: Receiver, **fields: object) -> dict:
    own = {"start_url": server.url("/start/K")} if product == "dev" else {"to": "1/2"}
    return {"result_url": server.url(), **own, **fields}


def call(product: str, server: Receiver, phone: str = "16175550123", **fields: object) -> CallRequest:
    return CallRequest(phone=phone, **terms(product, server, **fields))


def bulk(product: str, server: Receiver, phones: list[str], **fields: object) -> BulkRequest:
    csv = "\n".join(["destination", *phones, ""]).encode()
    return BulkRequest(name="spring", csv=csv, **terms(product, server, **fields))


def phones(count: int, first: int = 16175550100) -> list[str]:
    return [str(first + number) for number in range(count)]


# The circle


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_queued_call_comes_back_as_a_result(product: str, plum: Simulated, ours: Receiver) -> None:
    with plum.client(product) as client:
        call_id = client.queue(call(product, ours, reference="appt-42"))
    wait_until(ours.bodies)
    [body] = ours.bodies()
    if product == "dev":
        assert call_id.encode() in body
        assert b"appt-42" in body
    else:
        assert b"queued_timestamp" in body
        assert call_id not in body.decode().replace("timestamp", ""), "only DEV's results name the call"
        assert (b"16175550123" in body) == (product == "fuse")
    told = next(one for one in plum.truth() if (one["product"], one["call_id"]) == (product, call_id))
    assert told["is_final"]
    assert told["posts"] == {"200": 1}


@pytest.mark.parametrize("product", NUMBERED)
def test_the_status_api_reports_the_end_with_the_expected_words(
    product: str, plum: Simulated, ours: Receiver
) -> None:
    with plum.client(product) as client:
        call_id = client.queue(call(product, ours))
        wait_until(lambda: client.status(call_id).is_final)
        status = client.status(call_id)
    told = next(one for one in plum.truth() if (one["product"], one["call_id"]) == (product, call_id))
    assert status.word == told["status"]
    assert json.loads(status.body)["call_details"]["status"] == status.word


def test_dev_requests_its_script_when_a_call_connects(plum: Simulated, ours: Receiver) -> None:
    with plum.client("dev") as client:
        for phone in phones(20):
            client.queue(call("dev", ours, phone, reference=f"to {phone}", metadata={"name": "A&B"}))
    wait_until(lambda: len(ours.bodies()) == 20)
    asked = [dict(parse_qsl(body.decode())) for body in ours.bodies("/start/K")]
    answered = [one for one in plum.truth() if one["result_url"] == ours.url() and one["status"] == "completed"]
    assert {one["call_id"] for one in asked} == {one["call_id"] for one in answered}
    for one in asked:
        assert one["message_reference"] == f"to {one['phone_number']}"
        assert one["call_parameters"] == "name=A%26B"


@pytest.mark.parametrize("product", PRODUCTS)
def test_each_row_of_a_contact_list_becomes_a_call(product: str, plum: Simulated, ours: Receiver) -> None:
    with plum.client(product) as client:
        assert client.bulk_queue(bulk(product, ours, phones(30))) == 30
    wait_until(lambda: len(ours.bodies()) == 30)
    rows = [one for one in plum.truth() if one["result_url"] == ours.url()]
    assert [one["phone_number"] for one in rows] == phones(30)


# Time


def test_a_call_waits_for_its_window(plum: Simulated, ours: Receiver) -> None:
    start = datetime.now(UTC) + timedelta(hours=2)  # two seconds of ours
    with plum.client("fuse") as client:
        call_id = client.queue(call("fuse", ours, start=start))
        assert client.status(call_id).word == "queued"
        wait_until(ours.bodies)
        events = json.loads(client.status(call_id).body)["call_details"]["events"]
    assert int(next(one["timestamp"] for one in events if one["event"] == "dialing")) >= int(start.timestamp())


def test_a_call_whose_window_is_too_short_to_be_dialled_in_is_uncalled(plum: Simulated, ours: Receiver) -> None:
    start = datetime.now(UTC) + timedelta(hours=1)
    with plum.client("insight") as client:
        call_id = client.queue(call("insight", ours, start=start, end=start + timedelta(seconds=1)))
        wait_until(lambda: client.status(call_id).is_final)
        assert client.status(call_id).word == "uncalled"
    wait_until(ours.bodies)


def test_the_same_seed_gives_the_same_results_in_any_order(ours: Receiver) -> None:
    def ends(seed: str, numbers: list[str]) -> dict[str, tuple[str, int]]:
        with simulated("--seed", seed, "--speed", "1000000") as plum, plum.client("insight") as client:
            for phone in numbers:
                client.queue(call("insight", ours, phone, max_attempts=5, reattempt_wait_seconds=60))
            wait_until(lambda: all(one["is_final"] for one in plum.truth()))
            return {one["phone_number"]: (one["status"], one["attempts"]) for one in plum.truth()}

    assert ends("7", phones(25)) == ends("7", phones(25)[::-1]) != ends("8", phones(25))


# Cancelling


@pytest.mark.parametrize("product", NUMBERED)
def test_canceling_posts_a_result_for_every_pending_call_only(product: str, plum: Simulated, ours: Receiver) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=30)
    with plum.client(product) as client:
        waiting = [client.queue(call(product, ours, phone, to="8/1", start=tomorrow)) for phone in phones(5)]
        elsewhere = client.queue(call(product, ours, to="8/2", start=tomorrow))
        client.cancel("8/1")
        wait_until(lambda: len(ours.bodies()) == 5)
        assert {client.status(one).word for one in waiting} == {"canceled"}
        assert client.status(elsewhere).word == "queued"
        client.cancel("8/1")
    assert all(b"canceled" in body for body in ours.bodies())
    assert len(ours.bodies()) == 5


# Mishaps


def test_a_lost_result_is_never_posted_but_the_status_api_knows_the_call(ours: Receiver) -> None:
    with simulated("--speed", "1000000", "--lose", "1") as plum, plum.client("fuse") as client:
        call_id = client.queue(call("fuse", ours))
        wait_until(lambda: client.status(call_id).is_final)
        [told] = plum.truth()
    assert (told["lost"], told["posts"], ours.posts) == (True, {}, [])


def test_a_doubled_result_is_posted_twice_in_the_same_bytes(ours: Receiver) -> None:
    with simulated("--speed", "1000000", "--double", "1") as plum, plum.client("fuse") as client:
        client.queue(call("fuse", ours))
        wait_until(lambda: len(ours.bodies()) == 2)
        wait_until(lambda: plum.posts() == 2)
    assert len(set(ours.bodies())) == 1


def test_a_late_result_is_posted_an_hour_after_the_end(ours: Receiver) -> None:
    with simulated("--speed", "1800", "--late", "1") as plum, plum.client("fuse") as client:
        call_id = client.queue(call("fuse", ours))
        wait_until(lambda: client.status(call_id).is_final)
        assert ours.posts == []
        wait_until(ours.bodies)


def test_shares_of_mishaps_are_kept_and_change_no_end(ours: Receiver) -> None:
    def truths(*options: str) -> list[dict]:
        with simulated("--seed", "7", "--speed", "1000000", *options) as plum, plum.client("fuse") as client:
            client.bulk_queue(bulk("fuse", ours, phones(400)))
            wait_until(lambda: all(one["is_final"] for one in plum.truth()))
            return plum.truth()

    rough, smooth = truths("--lose", "0.25", "--double", "0.1", "--late", "0.1"), truths()
    assert 60 < sum(one["lost"] for one in rough) < 140
    assert 15 < sum(one["doubled"] for one in rough) < 75
    assert not any(one["lost"] or one["doubled"] or one["late"] for one in smooth)
    assert [one["status"] for one in rough] == [one["status"] for one in smooth]


def test_an_unreachable_receiver_is_noted_in_the_expected_outcomes(plum: Simulated) -> None:
    with receiver() as server, plum.client("fuse") as client:
        url = server.url()
        client.queue(call("fuse", server, start=datetime.now(UTC) + timedelta(hours=2)))
    wait_until(lambda: any(one["posts"] for one in plum.truth() if one["result_url"] == url))
    assert [one["posts"] for one in plum.truth() if one["result_url"] == url] == [{"ConnectionRefusedError": 1}]


# Refusals


@pytest.mark.parametrize("probed", [204, 301, 401, 404, 405, 503])
@pytest.mark.parametrize("product", PRODUCTS)
def test_a_url_that_does_not_answer_200_to_get_refuses_calls_and_batches(
    product: str, probed: int, plum: Simulated
) -> None:
    before = len(plum.truth())
    with receiver(probed) as server, plum.client(product) as client:
        with pytest.raises(Refused) as failure:
            client.queue(call(product, server))
        with pytest.raises(Refused):
            client.bulk_queue(bulk(product, server, phones(3)))
    assert "200 to GET" in str(failure.value)
    assert failure.value.status == (200 if product == "dev" else 400)
    assert len(plum.truth()) == before


@pytest.mark.parametrize(
    "url", ["nonsense", "http://[::1", "http://h:x/", "http://" + "a" * 70, "http://127.0.0.1:1/"]
)
def test_an_invalid_url_is_400(url: str, plum: Simulated) -> None:
    form = {"phone_number": "16175550123", "result_url": url}
    answer = raw(plum, "/fuse/api/apps/1/2/queue", form)
    assert (answer.status, "result_url" in json.loads(answer.body)["error"]) == (400, True)


@pytest.mark.parametrize("product", PRODUCTS)
def test_wrong_credentials_are_401(product: str, plum: Simulated, ours: Receiver) -> None:
    with plum.client(product, "wrong") as client, pytest.raises(WrongCredentials):
        client.queue(call(product, ours))


@pytest.mark.parametrize(
    ("to", "failure"),
    [("403/1", NotPermitted), ("404/1", UnknownDeployment), ("409/1", Conflict), ("500/1", FateUnknown)],
)
@pytest.mark.parametrize("product", NUMBERED)
def test_some_deployments_answer_with_their_code(
    product: str, to: str, failure: type[Exception], plum: Simulated, ours: Receiver
) -> None:
    with plum.client(product) as client:
        for ask in (
            lambda: client.queue(call(product, ours, to=to)),
            lambda: client.bulk_queue(bulk(product, ours, phones(2), to=to)),
            lambda: client.cancel(to),
        ):
            with pytest.raises(failure):
                ask()


@pytest.mark.parametrize("product", NUMBERED)
def test_an_id_that_was_never_given_is_unknown(product: str, plum: Simulated) -> None:
    with plum.client(product) as client, pytest.raises(UnknownCall, match="No outbound call was found by that id"):
        client.status("1")


# On the wire


@dataclass
class Raw:
    status: int
    content_type: str
    body: bytes
    link: str | None


def tree(body: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(body)  # noqa: S314 - our own simulator's


def raw(
    plum: Simulated, path: str, data: dict | bytes | None = None, method: str | None = None, **headers: str
) -> Raw:
    user, key = plum.settings["PLUM_FUSE_USER"], plum.settings["PLUM_FUSE_KEY"]
    request = Request(plum.url + path, urlencode(data).encode() if isinstance(data, dict) else data, method=method)
    request.add_header("Authorization", "Basic " + b64encode(f"{user}:{key}".encode()).decode())
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        answer = urlopen(request, timeout=10)
    except HTTPError as error:
        answer = error
    with answer:
        return Raw(answer.status, answer.headers["Content-Type"], answer.read(), answer.headers["Link"])


def test_insight_and_fuse_respond_in_json_or_xml_as_requested(plum: Simulated, ours: Receiver) -> None:
    form = {"phone_number": "16175550123", "result_url": ours.url()}
    queued = raw(plum, "/insight/api/surveys/1/2/queue", form, Accept="application/json")
    call_id = json.loads(queued.body)["call_id"]
    assert json.loads(queued.body)["success"] is True
    assert f"/insight/api/outbound/{call_id}>" in (queued.link or "")
    as_xml = raw(plum, "/fuse/api/apps/1/2/queue", form, Accept="text/xml")
    assert as_xml.content_type == "text/xml"
    number = tree(as_xml.body).findtext("call_id")
    status = raw(plum, f"/fuse/api/outbound/{number}", Accept="application/xml")
    assert tree(status.body).findtext("call_details/queued_timestamp")
    refused = raw(plum, "/insight/api/surveys/1/2/queue", {}, Accept="application/xml")
    document = tree(refused.body)
    assert (refused.status, document.findtext("success")) == (400, "false")
    assert "phone_number" in (document.findtext("error") or "")


def test_dev_repeats_login_and_pin(plum: Simulated, ours: Receiver) -> None:
    form = {
        "login": plum.settings["PLUM_DEV_LOGIN"],
        "pin": plum.settings["PLUM_DEV_PIN"],
        "phone_number": "16175550123",
        "start_url": ours.url("/start/K"),
    }
    document = tree(raw(plum, "/dev/webservice/queuecall.php", form).body)
    assert (document.tag, document.get("status")) == ("queuecall", "queued")
    assert {name: document.findtext(name) for name in form} == form


@pytest.mark.parametrize(
    ("method", "path", "content_type", "status"),
    [
        ("GET", "/insight/api/surveys/1/2/queue", "application/x-www-form-urlencoded", 405),
        ("POST", "/fuse/api/apps/1/2/cancel", "application/x-www-form-urlencoded", 405),
        ("POST", "/insight/api/surveys/1/2/queue", "application/json", 415),
        ("DELETE", "/insight/api/surveys/1/2/cancel", "text/plain", 415),
        ("DELETE", "/insight/api/surveys/1/2/cancel", "application/x-www-form-urlencoded", 202),
        ("POST", "/fuse/api/apps/1/2/bulk_queue", "application/x-www-form-urlencoded", 400),
        ("POST", "/fuse/api/apps/one-two/2/queue", "application/x-www-form-urlencoded", 404),
        ("GET", "/fuse/api/nothing", "text/plain", 404),
        ("GET", "/", "text/plain", 404),
    ],
)
def test_wrong_methods_types_and_addresses_have_plums_codes(
    method: str, path: str, content_type: str, status: int, plum: Simulated
) -> None:
    answer = raw(plum, path, b"{}" if method == "POST" else None, method, Content_Type=content_type)
    assert answer.status == status
    assert status == 202 or json.loads(answer.body)["error"]


def test_a_contact_list_without_destination_first_is_400(plum: Simulated, ours: Receiver) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="csv"; filename="c.csv"\r\n\r\n'
    part = head + b"phone\n16175550123\n\r\n--b--\r\n"
    answer = raw(plum, "/fuse/api/apps/1/2/bulk_queue", part, Content_Type="multipart/form-data; boundary=b")
    assert answer.status == 400
    assert "destination" in json.loads(answer.body)["error"]


# The process


def test_it_prints_lines_for_a_shell() -> None:
    command = [one for one in COMMAND if one != "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(10)]
        process.terminate()
    assert lines[0].startswith("# ")
    assert Counter(line.split("_")[1] for line in lines[1:]) == {"DEV": 3, "INSIGHT": 3, "FUSE": 3}
    assert all(line.startswith("export PLUM_") for line in lines[1:])


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_with_calls_in_its_queue(stop: signal.Signals, ours: Receiver) -> None:
    with simulated("--speed", "1") as plum, plum.client("fuse") as client:
        client.bulk_queue(bulk("fuse", ours, phones(50)))
        began = time.monotonic()
        os.kill(plum.process.pid, stop)
        assert plum.process.wait(timeout=20) == 0
    assert time.monotonic() - began < 5


def test_it_stops_at_once_while_a_receiver_gives_no_answer() -> None:
    with receiver() as server, simulated("--speed", "1000000") as plum, plum.client("fuse") as client:
        server.is_mute = True
        client.bulk_queue(bulk("fuse", server, phones(20)))
        wait_until(lambda: server.posts)
        began = time.monotonic()
        plum.process.terminate()
        assert plum.process.wait(timeout=20) == 0
        server.is_mute = False
    assert time.monotonic() - began < 5


def test_a_post_that_connects_while_it_stops_is_not_sent_nor_is_a_later_one(
    ours: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    posting, connect = Posting(), HTTPConnection.connect

    def connect_late(connection: HTTPConnection) -> None:
        posting.abort()
        connect(connection)

    monkeypatch.setattr(HTTPConnection, "connect", connect_late)
    assert [posting.post(ours.url(), {}, b"a=b") for _ in range(2)] == ["ConnectionAbortedError"] * 2
    assert ours.posts == []


def test_three_thousand_calls_end_and_are_reported(ours: Receiver) -> None:
    with simulated("--speed", "1000000") as plum, plum.client("insight") as client:
        client.bulk_queue(bulk("insight", ours, phones(3000, 12025550000)))
        wait_until(lambda: len(ours.posts) == 3000, 60)


def refusal(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["simulate", *arguments])
    assert done.exit_code != 0
    [line] = done.output.splitlines()
    return line


@pytest.mark.parametrize(
    "bind", ["0.0.0.0:8100", "192.0.2.1:8100", "[::]:8100", "plum.example:80", "127.0.0.1", ":1"]
)
def test_it_binds_to_loopback_alone(bind: str) -> None:
    assert "give a loopback one, like 127.0.0.1:8100" in refusal("--platform", "--bind", bind)


def test_a_port_that_is_taken_is_one_line(ours: Receiver) -> None:
    bind = f"127.0.0.1:{ours.server_port}"
    assert f"{bind} cannot be had: Address already in use" in refusal("--platform", "--bind", bind)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "give --result-url, or --platform to serve Plum's own APIs"),
        (["--result-url", "http://127.0.0.1:9/", "--lose", "0.1"], "--lose goes with --platform"),
        (["--platform", "--calls", "7"], "--calls goes without --platform"),
        (["--platform", "--result-url", "http://127.0.0.1:9/"], "--result-url goes without --platform"),
        (["--platform", "--lose", "2"], "--lose"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(arguments: list[str], line: str) -> None:
    assert line in refusal(*arguments)
