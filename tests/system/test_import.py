"""Import: deliveries from NDJSON, each once, bad lines named; and what was exported comes back the same."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.system.conftest import PROGRAM, Installation, Sender, Service, dev_body
from tests.system.test_api import OUTCOME_FIELDS

ENGINE = "postgresql"


@pytest.fixture
def store(new_database_url: Callable[[], str], tmp_path: Path) -> Installation:
    return Service(new_database_url(), tmp_path).prepare()


def line(sent: bytes | None = None, **fields: Any) -> str:
    """A line with this body; a field of None is left out."""
    given = {"integration": "one", "body": (sent or dev_body()).decode()} | fields
    return json.dumps({name: value for name, value in given.items() if value is not None})


def written(store: Installation, *lines: str, name: str = "log.ndjson") -> str:
    (store.directory / name).write_text("".join(f"{one}\n" for one in lines), errors="surrogateescape")
    return name


def imported(store: Installation, *names: str) -> dict[str, int]:
    return {name: number for name, number in store.json("import", *names).items() if number}


def outcomes(store: Installation) -> list[dict[str, Any]]:
    return store.json("outcomes", "--reveal", "limit=1000", "sort=id")


def test_imported_deliveries_are_read_like_posted_ones(store: Installation) -> None:
    at, key = "2026-03-08T14:30:00.5+01:00", str(uuid4())
    name = written(
        store,
        line(id=key, received_at=at, reference="r,1", content_type="application/x-www-form-urlencoded", odd=1,
             headers=[["A", "b"]], query="q=1", remote_addr="10.0.0.1", verdict="superseded", via="http"),
        line(dev_body(call_id="2"), body=None, body_base64=base64.b64encode(dev_body(call_id="2")).decode()),
        "",
        line(b"hello"),
    )  # fmt: skip
    assert imported(store, name) == {"applied": 2, "quarantined": 1}
    [delivery] = store.json("deliveries", "--reveal", f"id={key}")
    assert delivery["received_at"] == "2026-03-08T13:30:00.500000Z"
    assert (delivery["via"], delivery["verdict"], delivery["reference"]) == ("import", "applied", "r,1")
    assert (delivery["headers"], delivery["query"], delivery["remote_addr"]) == ([["A", "b"]], "q=1", "10.0.0.1")
    assert {outcome["call_id"] for outcome in outcomes(store)} == {"112850593", "2"}


def test_imported_twice_adds_nothing_with_ids_and_without(store: Installation) -> None:
    anonymous = json.dumps({"integration": "one", "body": '{"status":"completed"}'})
    name = written(store, line(id=str(uuid4())), anonymous, anonymous)
    assert imported(store, name) == {"applied": 3}
    before = outcomes(store)
    assert [one["possible_duplicate"] for one in before if one["identity"] == "none"] == [True, True]
    assert imported(store, name) == {"known": 3}
    assert outcomes(store) == before


def test_an_id_that_a_file_has_twice_counts_once(store: Installation) -> None:
    key = str(uuid4())
    assert imported(store, written(store, line(id=key), line(id=key))) == {"applied": 1, "known": 1}
    assert outcomes(store)[0]["deliveries"] == 1


BAD = {
    "not JSON": "{",
    "not UTF-8": "\udcff{}",
    "nested too deeply": "[" * 100_000,
    "not a JSON object": "[1]",
    "integration is missing": json.dumps({"body": "x"}),
    "there is no integration 'nobody'": line(integration="nobody"),
    "give one of body and body_base64$": json.dumps({"integration": "one"}),
    "not both": line(body_base64="eA=="),
    "body_base64 is not base64": json.dumps({"integration": "one", "body_base64": "é"}),
    "body is no text": line(body=5),
    "the body is empty": line(body=""),
    "received_at is no time": line(received_at="yesterday"),
    "received_at lies before 2000 or after 2100": line(received_at="1969-12-31T23:30:05Z"),
    "id is no UUID": line(id="7"),
    "id is no UUID: '7{79}…$": line(id="7" * 1000),
    "reference is no text of 1 to 255": line(reference="x" * 256),
    "content_type is no text": line(content_type=5),
    "headers are no list": line(headers=[["a"]]),
}


def test_each_bad_line_is_named_with_its_file_and_number_and_the_others_go_in(store: Installation) -> None:
    lines = [text for number, bad in enumerate(BAD.values()) for text in (bad, line(dev_body(call_id=str(number))))]
    name = written(store, *lines)
    done = store.run("import", "--json", name)
    assert done.returncode == 1
    complaints = done.stderr.splitlines()
    for number, (says, complaint) in enumerate(zip(BAD, complaints, strict=True)):
        assert complaint.startswith(f"plum-outcomes: {name}:{2 * number + 1}: ")
        assert re.search(says, complaint), complaint
    assert json.loads(done.stdout) == {"applied": len(BAD), "bad": len(BAD), "known": 0}
    assert len(outcomes(store)) == len(BAD)


def test_one_bad_line_is_one_line_on_stderr(store: Installation) -> None:
    store.assert_one_line("import", written(store, "{"), says=r"log.ndjson:1: not JSON")
    store.assert_one_line("import", "no-such-file", says="no-such-file")


def test_standard_input_is_read_where_a_dash_stands(store: Installation) -> None:
    done = subprocess.run(
        [str(PROGRAM), "import", "-", "--json"],
        env=store.environment(), cwd=store.directory, input=line(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["applied"] == 1


@pytest.mark.parametrize("other", ["sqlite", "postgresql"])
def test_deliveries_exported_from_one_store_make_the_same_outcomes_in_another(
    service: Service, other: str, tmp_path: Path, cluster: Any
) -> None:
    sender = service.sender(f"round-{other}")
    posts(sender)
    exported = service.ok("export", "--deliveries", "--reveal", "--format", "ndjson", f"integration={sender.name}")
    (tmp_path / "all.ndjson").write_text(exported)
    url = f"sqlite:///{tmp_path / 'other.db'}" if other == "sqlite" else cluster.create()
    store = Installation(url, tmp_path)
    store.ok("migrate")
    store.ok("integration", "add", sender.name)
    imported(store, "all.ndjson")
    expected = service.records("outcomes", integration=sender.name, sort="id")
    assert outcomes(store) == expected
    assert {one["identity"] for one in expected} == {"reference", "call_id", "derived", "none"}
    assert list(expected[0]) == OUTCOME_FIELDS


def posts(sender: Sender) -> None:
    for attempts in ("2", "1", "3", "3"):
        sender.post(dev_body(attempts=attempts)).assert_completed()
    fuse = {"phone_number": "'6175551234'", "status": "completed", "queued_timestamp": "1772539200"}
    sender.post_json(fuse, "/batch/b%2C1").assert_completed()
    for _ in range(2):
        sender.post_json({"status": "canceled", "attempts": "1"}).assert_completed()
    sender.post_json({"status": "rejected"}, "/call/a%2Fb%20%C3%A9").assert_completed()
    sender.post("phone_number=é&result=Completed&call_id=9".encode("latin-1")).assert_completed()
    sender.post(b"\xff\xfe\x00hello").assert_completed()


def test_a_body_that_ended_before_its_first_byte_is_read_back(store: Installation) -> None:
    name = written(store, line(body="", reason="cut_short", verdict="quarantined"))
    assert imported(store, name) == {"quarantined": 1}
    assert [one["reason"] for one in store.json("deliveries")] == ["cut_short"]


def test_an_export_into_a_pipe_or_device_does_not_replace_it(store: Installation) -> None:
    pipe = store.directory / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        store.ok("export", "--format", "csv", "--out", str(pipe))
        assert reader.stdout.read().startswith(b"id,integration,")
    assert pipe.is_fifo()


def test_an_output_that_is_closed_from_the_start_is_no_traceback(store: Installation) -> None:
    closed = subprocess.run(
        ["sh", "-c", f"'{PROGRAM}' summary >&-"],
        env=store.environment(),
        cwd=store.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in closed.stderr
