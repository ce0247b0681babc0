"""A start that cannot succeed fails in one line that says what to do."""

from __future__ import annotations

import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Cluster, free_port
from tests.system.conftest import PROGRAM, Installation, passing


@pytest.fixture
def fresh(tmp_path: Path) -> Installation:
    """SQLite in a directory of its own, no schema yet."""
    return Installation(f"sqlite:///{tmp_path / 'outcomes.db'}", tmp_path)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """A store that is up to date."""
    directory = tmp_path_factory.mktemp("migrated")
    made = Installation(f"sqlite:///{directory / 'outcomes.db'}", directory)
    made.ok("migrate")
    return made


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PLUM_DATABSE_URL", "sqlite:///x", r"PLUM_DATABSE_URL.*PLUM_DATABASE_URL"),
        ("PLUM_DATABASE_URL", "nonsense", r"PLUM_DATABASE_URL.*sqlite:///"),
        ("PLUM_DATABASE_URL", "sqlite:///:memory:", r"PLUM_DATABASE_URL.*sqlite:///"),
        ("PLUM_DATABASE_URL", "mysql://u:hunter2@h/x", r"PLUM_DATABASE_URL.*sqlite:///"),
        ("PLUM_DATABASE_URL", "postgresql+psycopg://h:port/x", r"PLUM_DATABASE_URL.*postgresql\+psycopg://"),
        ("PLUM_DATABASE_URL_FILE", "/nowhere/url", r"PLUM_DATABASE_URL"),
        ("PLUM_MAX_BODY_BYTES", "²", r"PLUM_MAX_BODY_BYTES.*\d"),
    ],
)
def test_an_unknown_or_wrong_setting_is_named_with_what_is_allowed(
    fresh: Installation, name: str, value: str, says: str
) -> None:
    fresh.settings[name] = value
    if name == "PLUM_DATABASE_URL_FILE":
        fresh.settings["PLUM_DATABASE_URL"] = ""
    fresh.assert_one_line("serve", "--bind", f"127.0.0.1:{free_port()}", says=says, hides="hunter2")


def test_serving_an_empty_store_says_to_migrate(fresh: Installation) -> None:
    fresh.assert_one_line("serve", "--bind", f"127.0.0.1:{free_port()}", says="plum-outcomes migrate")


def test_a_socket_of_another_kind_from_systemd_is_refused(migrated: Installation, tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as passed:
        passed.bind(str(tmp_path / "socket"))
        done = subprocess.run(
            passing(passed, [str(PROGRAM), "serve"]),
            env=migrated.environment(),
            cwd=migrated.directory,
            pass_fds=[passed.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode != 0
    [line] = done.stderr.splitlines()
    assert "ListenStream=HOST:PORT" in line


@pytest.mark.parametrize("command", [("integration", "list"), ("token", "add", "x"), ("outcomes",)])
def test_a_question_to_an_empty_store_says_to_migrate(fresh: Installation, command: tuple[str, ...]) -> None:
    fresh.assert_one_line(*command, says="plum-outcomes migrate")


def test_a_store_of_a_newer_program_is_not_served(fresh: Installation) -> None:
    fresh.ok("migrate")
    with fresh.sql() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    fresh.assert_one_line("serve", "--bind", f"127.0.0.1:{free_port()}", says="9999")
    fresh.assert_one_line("migrate", says="9999")


@pytest.mark.parametrize("file", ["/proc/outcomes.db", "/proc/nowhere/outcomes.db", "{}/a-file/outcomes.db", "{}"])
@pytest.mark.parametrize("command", ["migrate", "serve"])
def test_a_directory_that_cannot_be_written_is_named(fresh: Installation, file: str, command: str) -> None:
    (fresh.directory / "a-file").touch()
    fresh.database_url = f"sqlite:///{file.format(fresh.directory)}"
    says = r"(PLUM_DATABASE_URL|writ|permission|director).*"
    line = fresh.assert_one_line(command, says=says)
    assert str(Path(file.format(fresh.directory)).parent) in line


def test_a_file_that_is_no_store_is_named(fresh: Installation) -> None:
    (fresh.directory / "outcomes.db").write_bytes(b"no store, but a letter to the editor. " * 100)
    for command in ("migrate", "serve"):
        assert "outcomes.db" in fresh.assert_one_line(command, says="not a database")


def test_an_unreachable_postgresql_is_named_without_its_password(fresh: Installation) -> None:
    port = free_port()
    fresh.database_url = f"postgresql+psycopg://someone:hunter2@127.0.0.1:{port}/x"
    for command in ("migrate", "serve"):
        fresh.assert_one_line(command, says=f"{port}.*refused|refused.*{port}", hides="hunter2")


def test_a_postgresql_that_does_not_answer_is_given_up(fresh: Installation) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        fresh.database_url = f"postgresql+psycopg://someone@127.0.0.1:{silent.getsockname()[1]}/x"
        fresh.assert_one_line("serve", says="time")


def test_a_database_that_is_not_there_is_named(fresh: Installation, cluster: Cluster) -> None:
    fresh.database_url = cluster.url("nowhere")
    fresh.assert_one_line("serve", says='"nowhere" does not exist')


def test_a_port_already_taken_is_one_line(migrated: Installation) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        migrated.assert_one_line("serve", "--bind", f"127.0.0.1:{port}", says=f"{port}.*(another|--bind)")


@pytest.mark.parametrize("bind", ["8000", "127.0.0.1:x", "127.0.0.1:99999", "nowhere.invalid:8000"])
def test_a_wrong_address_is_one_line(migrated: Installation, bind: str) -> None:
    migrated.assert_one_line("serve", "--bind", bind, says=bind.replace(".", r"\."))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("integration", "disable", "nobody"), "nobody"),
        (("integration", "rotate", "nobody"), "nobody"),
        (("integration", "enable", "nobody"), "nobody"),
        (("token", "revoke", "nobody"), "nobody"),
        (("integration", "add", "a name"), "a name"),
        (("outcomes", "nonsense=1"), "nonsense"),
        (("outcomes", "limit=0"), "limit"),
        (("nonsense",), "nonsense.*--help"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(migrated: Installation, command: tuple[str, ...], says: str) -> None:
    migrated.assert_one_line(*command, says=says)


def test_a_disabled_integration_is_not_given_a_url_that_is_dead(migrated: Installation) -> None:
    migrated.ok("integration", "add", "off")
    migrated.ok("integration", "disable", "off")
    migrated.assert_one_line("integration", "rotate", "off", says="integration enable off")
    migrated.ok("integration", "enable", "off")
    migrated.ok("integration", "rotate", "off")


def test_a_name_can_be_given_once(migrated: Installation) -> None:
    for kind in ("integration", "token"):
        migrated.ok(kind, "add", "first")
        migrated.assert_one_line(kind, "add", "first", says="first")
