"""What commands print steers no terminal, and what cannot be printed is one line."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.interpret import interpret
from app.model import Delivery
from app.store.database import Database
from app.store.integrations import add_integration
from app.store.readings import save
from app.terminal import harmless
from tests.conftest import copied

PROGRAM = str(Path(sys.executable).parent / "plum-outcomes")
NASTY = "\x1b]0;owned\x07\x1b[2J\n\r\t\x7f\x9b31m\u202eevil\u2066\u2028\u0085\u200b\x08 Zoë “€” 😀"
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture
def environment(tmp_path: Path, request: pytest.FixtureRequest):
    """Of a store with one call, in whose values a sender has put what terminals obey."""
    with copied("sqlite", "migrated", tmp_path, request) as url:
        database = Database(url)
        now = datetime(2026, 1, 1, tzinfo=UTC)
        add_integration(database, "i", None, now)
        body = json.dumps({"call_id": NASTY, "result": NASTY, "callee_type": "voice", NASTY: NASTY}).encode()
        save(
            database, [interpret(Delivery(id=UUID(int=7), integration="i", received_at=now, body=body, batch=NASTY))]
        )
        database.close()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PLUM_", "PYTHON", "LC_"))}
        yield kept | {"PLUM_DATABASE_URL": url, "PLUM_SPOOL_DIR": str(tmp_path / "spool"), "LANG": "C.UTF-8"}


def run(environment: dict[str, str], command: str, **others: str) -> subprocess.CompletedProcess[bytes]:
    """As a shell runs it."""
    line = f"set -o pipefail; {PROGRAM} {command}"
    return subprocess.run(
        ["bash", "-c", line], env=environment | others, capture_output=True, timeout=60, check=False
    )


def assert_one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    assert done.returncode != 0
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("plum-outcomes: ")
    return line


SHOWING = ["outcomes fields=call_id,status_raw,batch", "deliveries fields=batch,problems"]


@pytest.mark.parametrize("command", [*SHOWING, *(f"{one} --json" for one in SHOWING), "summary group_by=batch"])
def test_no_value_steers_the_terminal(environment, command) -> None:
    done = run(environment, command)
    shown = done.stdout.decode()
    assert done.returncode == 0
    assert not STEERING.search(shown)
    assert "\\u001b" in shown
    if "--json" not in command:
        assert len(shown.splitlines()) == shown.count("\n")


def test_json_says_the_same_values(environment) -> None:
    [record] = json.loads(run(environment, "outcomes fields=call_id,batch --json").stdout)
    assert record == {"call_id": NASTY, "batch": NASTY}


@pytest.mark.parametrize(
    "command",
    ["outcomes limit=$'\\e[2J'", "import $'/nowhere/\\e[2J\\n'", "integration add $'\\e[2J\\n'", "$'\\e[2J'"],
)
def test_no_error_that_quotes_steers_the_terminal_either(environment, command) -> None:
    assert not STEERING.search(assert_one_line(run(environment, command)))


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_an_export_onto_a_terminal_does_not_steer_it(environment, form) -> None:
    shown, _, status = on_a_terminal(environment, "export", "--format", form, "fields=call_id,extra")
    assert status == 0
    assert not STEERING.search(shown.replace("\r\n", "\n"))
    assert "evil" in shown


@pytest.mark.parametrize("form", ["xlsx", "parquet"])
def test_an_export_that_is_no_text_is_not_written_onto_a_terminal(environment, form) -> None:
    shown, said, status = on_a_terminal(environment, "export", "--format", form)
    assert (shown, status != 0) == ("", True)
    assert "--out" in said


def test_an_export_into_a_pipe_is_exact(environment) -> None:
    done = run(environment, "export --format ndjson fields=call_id | cat")
    assert json.loads(done.stdout) == {"call_id": NASTY}


@pytest.mark.parametrize(
    "command",
    [
        "export --format csv",
        "export --format parquet",
        "outcomes",
        "outcomes --json",
        "integration list",
        "doctor",
        "--help",
    ],
)
def test_output_that_finds_no_room_is_one_line_and_a_failure(environment, command) -> None:
    assert "No space left on device" in assert_one_line(run(environment, f"{command} > /dev/full"))


@pytest.mark.parametrize("command", ["export --format csv", "outcomes", "outcomes --json", "--help"])
def test_a_reader_that_has_enough_ends_a_command_without_a_word_and_not_as_a_success(environment, command) -> None:
    done = run(environment, f"{command} | true")
    assert (done.returncode != 0, done.stderr) == (True, b"")


@pytest.mark.parametrize("charset", ["cp1252", "ascii", "latin-1"])
@pytest.mark.parametrize("command", ["outcomes fields=call_id,phone_number", "outcomes fields=call_id --json"])
def test_a_terminal_of_another_charset_is_no_failure(environment, charset, command) -> None:
    done = run(environment, command, PYTHONIOENCODING=charset)
    assert (done.returncode, done.stderr) == (0, b"")
    if "--json" in command:
        assert json.loads(done.stdout) == [{"call_id": NASTY}]


@given(st.text())
def test_harmless_text_says_the_same_and_is_one_line(text) -> None:
    shown = harmless(text)
    assert not STEERING.search(shown)
    assert "\n" not in shown
    assert json.loads(f'"{harmless(json.dumps(text, ensure_ascii=False)[1:-1])}"') == text


def on_a_terminal(environment: dict[str, str], *arguments: str) -> tuple[str, str, int]:
    """What it shows there, what it says on stderr, and its status."""
    leader, follower = pty.openpty()
    done = subprocess.Popen([PROGRAM, *arguments], env=environment, stdout=follower, stderr=subprocess.PIPE)
    os.close(follower)
    shown = b""
    with suppress(OSError):  # the other end is closed
        while piece := os.read(leader, 65536):
            shown += piece
    os.close(leader)
    _, said = done.communicate(timeout=60)
    return shown.decode(), said.decode(), done.returncode
