"""`deploy/nginx`, run by the system's nginx before a real service; only ports and directories are the test's."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest

from tests.conftest import children_of, free_port, frozen, skip_or_fail, wait_until
from tests.system.conftest import FORM, ROOT, Answer, Sender, Service, dev_body, exchange

FACES = {"public": "443 ssl", "plain": "80", "inside": "8443 ssl"}
HOST = "calls.example.com"
MOST_AT_ONCE = 50  # connections of one address, instead of the many of deploy/nginx
TIMES = 20  # whether a sender has gone before nginx asks the service is a matter of luck
AROUND = """
daemon off;
pid {directory}/pid;
error_log {directory}/main.log info;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/conf.d/*.conf;
}}
"""


@dataclass
class Nginx:
    directory: Path
    ports: dict[str, int]

    def connect(
        self, face: str, source: str = "127.0.0.1", newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> http.client.HTTPConnection:
        options = {"timeout": 30, "source_address": (source, 0)}
        if face == "plain":
            return http.client.HTTPConnection("127.0.0.1", self.ports[face], **options)
        trusted = ssl.create_default_context(cafile=str(self.directory / "fullchain.pem"))
        trusted.maximum_version = newest
        return http.client.HTTPSConnection("127.0.0.1", self.ports[face], context=trusted, **options)

    def ask(self, face: str, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        with closing(self.connect(face)) as connection:
            return exchange(connection, method, path, body, headers)

    def workers(self) -> list[int]:
        return children_of(int((self.directory / "pid").read_text()))

    def logs(self) -> str:
        return "".join(log.read_text() for log in self.directory.glob("*.log"))


def written(directory: Path, service: Service) -> Nginx:
    """The two files of `deploy/nginx`, with this machine's ports and directories in place of a server's."""
    ports = {face: free_port() for face in FACES}
    moved = {f"listen {listen};": f"listen 127.0.0.1:{ports[face]}{listen[3:]};" for face, listen in FACES.items()}
    moved["listen 8443 ssl;"] = f"listen 127.0.0.1:{ports['inside']} ssl;"
    moved["listen 80;"] = f"listen 127.0.0.1:{ports['plain']};"
    moved |= {f"listen [::]:{listen};": "" for listen in FACES.values()}  # not every machine has IPv6
    moved["plum_outcomes_connections 2000;"] = f"plum_outcomes_connections {MOST_AT_ONCE};"
    moved |= {"127.0.0.1:8000": f"127.0.0.1:{service.port}", "/var/log/nginx": str(directory)}
    moved |= {f"/etc/letsencrypt/live/{HOST}": str(directory), "/var/www/html": str(directory)}
    (directory / "conf.d").mkdir()
    files = {file.name: file.read_text() for file in (ROOT / "deploy" / "nginx").iterdir()}
    for name, text in files.items():
        for there, here in moved.items():
            assert any(there in one for one in files.values()), there
            text = text.replace(there, here)
        (directory / "conf.d" / name).write_text(text)
    (directory / "nginx.conf").write_text(AROUND.format(directory=directory))
    return Nginx(directory, ports)


def certify(directory: Path) -> None:
    names = f"subjectAltName=IP:127.0.0.1,DNS:{HOST}"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", f"/CN={HOST}", "-addext", names, "-addext", "basicConstraints=CA:TRUE"]
    command += ["-keyout", str(directory / "privkey.pem"), "-out", str(directory / "fullchain.pem")]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("behind")
    settings = {"PLUM_TRUSTED_PROXIES": "127.0.0.1"}
    made = Service(f"sqlite:///{directory / 'outcomes.db'}", directory, settings).prepare().start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def nginx(service: Service) -> Iterator[Nginx]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program or not shutil.which("openssl"):
        skip_or_fail("nginx or openssl is not here; install them: apt-get install nginx openssl")
    user = "nobody" if os.geteuid() == 0 else None
    with TemporaryDirectory(prefix="plum-nginx-") as named:
        directory = Path(named)
        made = written(directory, service)
        certify(directory)
        for file in [directory, *directory.rglob("*")]:
            shutil.chown(file, user or os.geteuid())
        command = [program, "-p", named, "-c", f"{named}/nginx.conf", "-e", f"{named}/main.log"]
        with subprocess.Popen(command, user=user, cwd="/", stderr=subprocess.PIPE) as process:
            try:
                wait_until(lambda: listens(made.ports["inside"]) or process.poll() is not None)
                assert process.poll() is None, process.stderr.read()
                yield made
            finally:
                process.terminate()


def listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def sender(service: Service) -> Sender:
    return service.sender("behind")


def test_a_result_comes_through_with_the_clients_address_and_its_exact_bytes(nginx: Nginx, sender: Sender) -> None:
    body = dev_body(call_id="through")
    with closing(nginx.connect("public", source="127.0.0.9")) as connection:
        headers = {"Content-Type": FORM, "X-Forwarded-For": "203.0.113.1"}
        answer = exchange(connection, "POST", f"{sender.path}/call/a%2Fb%20c", body, headers).assert_completed()
    assert answer.headers["X-Delivery-Verdict"] == "applied"
    [delivery] = sender.deliveries(reference="a/b c")
    assert delivery["remote_addr"] == "127.0.0.9"
    assert sender.body_of(delivery["id"]) == body


def test_probes_of_both_urls_are_answered(nginx: Nginx, sender: Sender) -> None:
    start = f"/start/{sender.key}"
    for method, path in [("GET", sender.path), ("POST", sender.path), ("GET", f"{sender.path}/"), ("GET", start)]:
        nginx.ask("public", method, path).assert_completed()
    assert nginx.ask("public", "HEAD", start).status == 200


def test_a_probe_over_http_1_0_without_a_host_is_answered(nginx: Nginx, sender: Sender) -> None:
    with closing(nginx.connect("public")) as connection:
        connection.connect()
        connection.sock.sendall(f"POST {sender.path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\ncompleted")


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/readyz",
        "/livez",
        "/api/v1/outcomes",
        "/api/docs",
        "/",
        "/result",
        "//metrics",
        "/result/../readyz",
    ],
)
def test_nothing_but_plums_face_is_public(nginx: Nginx, service: Service, path: str) -> None:
    for face in ("public", "plain"):
        answer = nginx.ask(face, "GET", path, Authorization=f"Bearer {service.token}")
        assert answer.status == 404
        assert b"<center>nginx</center>" in answer.body  # the request did not reach the service


def test_a_wrong_key_is_refused_by_the_service_itself(nginx: Nginx) -> None:
    answer = nginx.ask("public", "GET", "/result/nonsense")
    assert (answer.status, answer.body[:14]) == (404, b"no integration")


def test_a_result_without_tls_is_not_taken(nginx: Nginx, sender: Sender) -> None:
    assert nginx.ask("plain", "POST", sender.path, dev_body(call_id="plain")).status == 404
    assert sender.outcomes(call_id="plain") == []


def test_acme_challenges_are_served_without_tls(nginx: Nginx) -> None:
    answers = nginx.directory / ".well-known" / "acme-challenge"
    answers.mkdir(parents=True)
    (answers / "token").write_text("the answer")
    assert nginx.ask("plain", "GET", "/.well-known/acme-challenge/token").body == b"the answer"


def test_a_body_over_the_limit_gets_the_services_413(nginx: Nginx, sender: Sender) -> None:
    answer = nginx.ask("public", "POST", sender.path, b"a" * 1_500_000)
    assert (answer.status, answer.headers["Content-Type"].split(";")[0]) == (413, "text/plain")
    assert b"<html>" not in answer.body


def connect_to_leave(nginx: Nginx) -> http.client.HTTPConnection:
    """A connection on which nothing of nginx is unread, or closing it would take away what was sent.

    So by TLS 1.2: version 1.3 sends tickets after the handshake.
    """
    connection = nginx.connect("public", newest=ssl.TLSVersion.TLSv1_2)
    connection.connect()
    return connection


def send_and_leave(
    connection: http.client.HTTPConnection, path: str, body: bytes, length: int, after_seconds: float = 0.0
) -> None:
    """Send this and be gone, without a look at the answer."""
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(length))
    connection.endheaders(body)
    time.sleep(after_seconds)
    connection.sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_result_without_a_length_is_not_acknowledged(nginx: Nginx, sender: Sender, version: str) -> None:
    with closing(nginx.connect("public")) as connection:
        connection.connect()
        head = (
            f"POST {sender.path} HTTP/{version}\r\nHost: {HOST}\r\nContent-Type: {FORM}\r\nConnection: close\r\n\r\n"
        )
        connection.sock.sendall(head.encode() + dev_body(call_id="no-length"))
        assert connection.sock.recv(65536).split(b"\r\n")[0] == b"HTTP/1.1 411 Length Required"


def test_a_bare_post_is_a_probe(nginx: Nginx, sender: Sender) -> None:
    with closing(nginx.connect("public")) as connection:
        connection.putrequest("POST", sender.path)
        connection.endheaders()
        assert connection.getresponse().read() == b"completed"


def test_no_connection_is_kept_that_a_reload_would_close(nginx: Nginx, sender: Sender) -> None:
    answer = nginx.ask("public", "POST", sender.path, dev_body()).assert_completed()
    assert answer.headers["Connection"] == "close"


def leave(nginx: Nginx, path: str, body: bytes, length: int, after_seconds: float = 0.0) -> None:
    with closing(connect_to_leave(nginx)) as connection:
        send_and_leave(connection, path, body, length, after_seconds)


def test_the_received_part_of_an_incomplete_body_is_kept(nginx: Nginx, sender: Sender) -> None:
    def is_kept() -> bool:
        leave(nginx, f"{sender.path}/batch/torn", b"call_id=torn&", 1000, after_seconds=0.1)
        return {one["reason"] for one in sender.deliveries(batch="torn")} == {"cut_short"}

    wait_until(is_kept)


def test_a_result_is_kept_though_its_sender_does_not_wait_for_the_answer(nginx: Nginx, sender: Sender) -> None:
    body = dev_body(call_id="gone")
    for _ in range(TIMES):
        leave(nginx, f"{sender.path}/batch/gone", body, len(body))
    wait_until(lambda: [one["deliveries"] for one in sender.outcomes(batch="gone")] == [TIMES])


def test_results_of_one_moment_are_kept_though_their_senders_have_left(nginx: Nginx, sender: Sender) -> None:
    body = dev_body(call_id="at-once")
    with ExitStack() as senders:
        connections = [senders.enter_context(closing(connect_to_leave(nginx))) for _ in range(TIMES)]
        with frozen(nginx.workers()):
            for connection in connections:
                send_and_leave(connection, f"{sender.path}/batch/at-once", body, len(body))
    wait_until(lambda: [one["deliveries"] for one in sender.outcomes(batch="at-once")] == [TIMES])


def test_the_private_port_serves_the_rest_with_working_links(nginx: Nginx, service: Service, sender: Sender) -> None:
    for number in range(2):
        sender.assert_accepted(dev_body(call_id=f"page-{number}"))
    token = {"Authorization": f"Bearer {service.token}", "X-Forwarded-Host": "elsewhere.example"}
    page = nginx.ask("inside", "GET", "/api/v1/outcomes?limit=1", **token)
    following = urlsplit(page.json()["next"])
    assert (following.scheme, following.netloc) == ("https", f"127.0.0.1:{nginx.ports['inside']}")
    assert len(nginx.ask("inside", "GET", f"{following.path}?{following.query}", **token).json()["data"]) == 1
    export = nginx.ask("inside", "GET", "/api/v1/outcomes.csv", **token)
    assert export.headers["Transfer-Encoding"] == "chunked"
    assert b"page-1" in export.body
    for path in ("/readyz", "/livez", "/metrics", "/api/docs"):
        assert nginx.ask("inside", "GET", path).status == 200
    assert nginx.ask("inside", "POST", sender.path, dev_body()).status == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v1/outcomes.csv", b"505"), ("/api/v1/redial.csv?limit=1", b"505"), ("/readyz", b"200")],
)
def test_a_client_that_could_not_tell_a_broken_export_from_a_whole_one_gets_none(
    nginx: Nginx, service: Service, path: str, status: bytes
) -> None:
    with closing(nginx.connect("inside")) as connection:
        connection.connect()
        head = f"GET {path} HTTP/1.0\r\nHost: {HOST}\r\nAuthorization: Bearer {service.token}\r\n\r\n"
        connection.sock.sendall(head.encode())
        assert connection.sock.recv(65536).split()[1] == status


def test_a_live_stream_sends_a_result_while_it_is_open(nginx: Nginx, service: Service, sender: Sender) -> None:
    with closing(nginx.connect("inside")) as connection:
        connection.request("GET", "/api/v1/live", headers={"Authorization": f"Bearer {service.token}"})
        stream = connection.getresponse()
        nginx.ask("public", "POST", sender.path, dev_body(call_id="live")).assert_completed()
        assert any(b'"call_id":"live"' in line.replace(b" ", b"") for line in stream)


def test_one_address_cannot_hold_all_connections(nginx: Nginx, sender: Sender) -> None:
    with ExitStack() as held:
        for _ in range(MOST_AT_ONCE):
            connection = held.enter_context(closing(nginx.connect("public", source="127.0.0.8")))
            connection.putrequest("POST", sender.path)
            connection.putheader("Content-Length", "1000")
            connection.endheaders(b"a")
        with closing(nginx.connect("public", source="127.0.0.8")) as connection:
            wait_until(lambda: exchange(connection, "GET", sender.path).status == 503)
            refused = exchange(connection, "GET", sender.path)
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        nginx.ask("public", "GET", sender.path).assert_completed()


def test_while_the_service_is_away_a_post_gets_503(nginx: Nginx, service: Service, sender: Sender) -> None:
    service.stop()
    try:
        answer = nginx.ask("public", "POST", sender.path, dev_body())
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    finally:
        service.start()


def test_the_logs_have_deliveries_ids_and_neither_keys_nor_numbers(
    nginx: Nginx, service: Service, sender: Sender
) -> None:
    headers = {"Referer": f"https://calls.example.com{sender.path}", "Content-Type": FORM}
    answer = nginx.ask("public", "POST", sender.path, dev_body(), **headers).assert_completed()
    nginx.ask("public", "POST", f"{sender.path}/%zz", b"")  # nginx refuses it by itself
    nginx.ask(
        "inside", "GET", f"/api/v1/outcomes?phone_number=%2B{16175551234}", Authorization=f"Bearer {service.token}"
    )
    wait_until(lambda: answer.headers["X-Delivery-Id"] in nginx.logs())
    assert [secret for secret in service.secrets if secret in nginx.logs()] == []
