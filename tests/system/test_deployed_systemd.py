"""`deploy/systemd` and `docs/install.md`: what systemd says of the unit, and what its commands do."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import skip_or_fail, wait_until
from tests.system.conftest import PROGRAM, ROOT, STOP_SECONDS, Service, passing

UNIT = ROOT / "deploy" / "systemd" / "plum-outcomes.service"
SOCKET = UNIT.with_suffix(".socket")
DEBIANS = Path("/etc/nginx/nginx.conf")
MOST_COMMANDS = 10
MOST_EXPOSED = 1.5  # of 10, as systemd reckons
NAME = "calls.example.org"


def commands() -> list[list[str]]:
    """Those that install, as the document has them."""
    block = re.search(r"\n\n((?:    .+\n)+)", (ROOT / "docs" / "install.md").read_text())
    return [shlex.split(line) for line in block[1].splitlines()]


@dataclass
class Server:
    """A directory that stands for `/`, and the project's own for `/opt/plum-outcomes`."""

    root: Path

    def here(self, text: str) -> str:
        text = text.replace("/opt/plum-outcomes/.venv/bin/plum-outcomes", str(PROGRAM))
        text = text.replace("/opt/plum-outcomes", str(ROOT)).replace("YOUR.NAME", NAME)
        return re.sub(r"(?<![\w.])/(etc|var)/", rf"{self.root}/\1/", text)

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    def unit(self) -> dict[str, str]:
        """Its settings with specifiers as systemd gives them; of one that stands there again the last."""
        text = UNIT.read_text().replace("%S", "/var/lib").replace("%d", "/etc/plum-outcomes")
        return dict(re.findall(r"^(\w+)=(.*)$", self.here(text), re.M))

    def environment(self) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith("PLUM_")}
        lines = [*self.read("/etc/plum-outcomes/settings").splitlines(), self.unit()["Environment"]]
        return others | dict(line.split("=", 1) for line in lines if not line.startswith("#"))

    def command(self, *arguments: str, program: str = str(PROGRAM)) -> str:
        """What the program prints when it is run as a command of the service's."""
        text = self.here((ROOT / "deploy" / "systemd" / "plum-outcomes").read_text()).replace(str(PROGRAM), program)
        assert "runuser --user plum_outcomes --" in text
        script = self.root / "command"
        script.write_text(text.replace("runuser --user plum_outcomes --", ""))
        run = ["sh", str(script), *arguments]
        return subprocess.run(run, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """After those commands that put files in their places."""
    made = Server(tmp_path_factory.mktemp("server"))
    for directory in ("etc/nginx/conf.d", "var/lib/plum-outcomes"):
        (made.root / directory).mkdir(parents=True)
    if not DEBIANS.exists():
        skip_or_fail(f"{DEBIANS} is not here; install it: apt-get install nginx")
    shutil.copy(DEBIANS, made.root / "etc" / "nginx")
    for command in commands():
        if command[0] in ("install", "cp", "sed"):
            subprocess.run([made.here(word) for word in command], check=True)
    settings = made.root / "etc" / "plum-outcomes" / "settings"
    settings.write_text(made.here(settings.read_text()))
    database = made.root / "etc" / "plum-outcomes" / "database-url"
    database.write_text(f"sqlite:///{made.root}/outcomes.db\n")
    return made


def test_installing_takes_ten_commands_at_most() -> None:
    assert 5 < len(commands()) <= MOST_COMMANDS
    assert not [word for command in commands() for word in command if word in ("&&", ";", "|", "||")]


def test_all_that_the_commands_copy_is_there() -> None:
    named = {word for command in commands() for word in command if word.startswith("/opt/plum-outcomes/")}
    assert len(named) > 3
    assert [path for path in named if not (ROOT / path.removeprefix("/opt/plum-outcomes/")).exists()] == []


def test_the_servers_name_is_put_wherever_it_belongs(server: Server) -> None:
    places = (
        "/etc/plum-outcomes/settings",
        *(f"/etc/nginx/conf.d/plum-outcomes.{one}" for one in ("conf", "include")),
    )
    for path in places:
        assert NAME in server.read(path)
        assert "calls.example.com" not in server.read(path)


def test_nginx_gets_more_connections_than_a_stranger_takes_at_once(server: Server) -> None:
    assert "worker_connections 768;" in DEBIANS.read_text()
    text = server.read("/etc/nginx/nginx.conf")
    assert re.findall(r"^\s*(worker_(?:connections|rlimit_nofile) .*)", text, re.M) == [
        "worker_rlimit_nofile 65536;",
        "worker_connections 16384;",
    ]


def analyse(*arguments: str) -> str:
    """What systemd says, all being well."""
    program = shutil.which("systemd-analyze")
    if not program:
        skip_or_fail("systemd-analyze is not here; install it: apt-get install systemd")
    if not Path("/run/systemd").exists() and os.geteuid() != 0:
        skip_or_fail("systemd-analyze wants a directory that root alone can make: mkdir /run/systemd")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_finds_nothing_wrong_with_the_units(server: Server, tmp_path: Path) -> None:
    for unit in (UNIT, SOCKET):
        (tmp_path / unit.name).write_text(server.here(unit.read_text()))
    assert UNIT.stem not in analyse("verify", "--man=no", *map(str, tmp_path.iterdir()))


def test_the_unit_leaves_little_open() -> None:
    analyse("security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:.0f}", str(UNIT))


def test_stopping_has_the_time_that_the_service_may_take(server: Server) -> None:
    assert int(server.unit()["TimeoutStopSec"]) > STOP_SECONDS


@pytest.fixture
def started(server: Server) -> Iterator[tuple[Service, socket.socket]]:
    """What ExecStartPre and ExecStart say, and the socket to which the service tells that it is up."""
    unit, directory = server.unit(), server.root / "var" / "lib" / "plum-outcomes"
    [host] = re.findall(r"^ListenStream=(.*):8000$", SOCKET.read_text(), re.M)
    environment = server.environment() | {"NOTIFY_SOCKET": str(server.root / "notify")}
    with (
        socket.create_server((host, 0)) as listening,
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as told,
    ):
        service = Service(f"sqlite:///{server.root}/outcomes.db", directory, port=listening.getsockname()[1])
        told.bind(environment["NOTIFY_SOCKET"])
        told.settimeout(30)
        options = {"env": environment, "cwd": unit["WorkingDirectory"], "umask": int(unit["UMask"], 8)}
        subprocess.run(shlex.split(unit["ExecStartPre"].lstrip("-")), check=True, **options)
        command = passing(listening, shlex.split(unit["ExecStart"]))
        with (directory / "stderr").open("wb") as log:
            service.process = subprocess.Popen(
                command, start_new_session=True, stderr=log, pass_fds=[listening.fileno()], **options
            )
        try:
            yield service, told
        finally:
            service.stop()


def test_the_units_commands_serve_with_the_settings_that_were_copied(
    started: tuple[Service, socket.socket], server: Server
) -> None:
    service, told = started
    while not told.recv(4096).startswith(b"READY=1"):
        pass
    wait_until(lambda: service.request("GET", "/readyz").status == 200, 30)
    assert len(service.workers()) == 4
    added = server.command("integration", "add", "reminders")
    key = service.know(re.search(rf"https://{NAME}/result/(\S+)", added)[1])
    service.request("GET", f"/result/{key}").assert_completed()
    assert (server.root / "var" / "lib" / "plum-outcomes" / "spool").stat().st_mode & 0o777 == 0o700


def test_a_command_takes_settings_as_the_unit_does_and_runs_nothing_of_them(server: Server) -> None:
    lines = [
        "PLUM_READ_DATABASE_URL=postgresql+psycopg://u@/x?host=/run&user=u",
        "PLUM_INSIGHT_KEY=a 'b' $c; `touch ran`",
    ]
    with (server.root / "etc" / "plum-outcomes" / "settings").open("a") as settings:
        settings.write("\n".join(lines))  # also the last line, which has no end
    taken = server.command(program="env").splitlines()
    assert [line for line in lines if line not in taken] == []
    assert f"PLUM_DATABASE_URL=sqlite:///{server.root}/outcomes.db" in taken
