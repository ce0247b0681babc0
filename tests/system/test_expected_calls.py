"""Calls that others queued: told over HTTP or by a file, listed as all records are, and given to their results."""

from __future__ import annotations

import csv
import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Answer, Sender, Service, together

ENGINE = "postgresql"

PHONE_RAW = "6175551234"


def tell(service: Service, admin_token: str, told: Any) -> Answer:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    headers = {"Authorization": f"Bearer {admin_token}", "Content-Type": "application/json"}
    return service.request("POST", "/api/v1/expected-calls", body, headers)


def test_one_call_or_a_list_is_registered_and_the_same_again_changes_nothing(
    service: Service, admin_token: str
) -> None:
    sender = service.sender("told", "insight")
    one = {"integration": sender.name, "reference": "a/b c", "call_id": 155761, "phone_number": PHONE_RAW}
    whole = one | {"batch": "spring", "ends_at": "2026-03-08T12:00:00-05:00", "metadata": {"who": "Ann", "age": 41}}
    [record] = tell(service, admin_token, whole).json()["data"]
    assert record["call_id"] == "155761"
    assert record["phone_number"] == "+16175551234"
    assert record["ends_at"] == "2026-03-08T17:00:00Z"
    assert record["state"] in ("waiting", "missing")
    several = tell(service, admin_token, [whole, {"integration": sender.name, "call_id": "7"}]).json()["data"]
    assert several[0]["id"] == record["id"]
    assert len(service.records("expected-calls", integration=sender.name)) == 2
    sender.assert_accepted(b'{"status":"completed"}', below="/call/a%2Fb%20c")
    outcome = sender.outcome()
    assert (outcome["call_id"], outcome["phone_number"]) == ("155761", "+16175551234")
    assert outcome["metadata"] == {"who": "Ann", "age": 41}
    [received] = service.records("expected-calls", integration=sender.name, state="received")
    assert received["outcome_id"] == outcome["id"]


def test_errors_are_named_by_place_and_nothing_is_registered(service: Service, admin_token: str) -> None:
    sender = service.sender("wrong-calls")
    right = {"integration": sender.name, "reference": "r-1"}
    wrong = [
        right,
        {"integration": sender.name},
        right | {"integration": "nobody"},
        right | {"phone_number": "12"},
        right | {"ends_at": "soon"},
        right | {"metadata": ["x"]},
        right | {"reference": "x" * 256},
        right | {"colour": "red"},
        right | {"reference": None},
    ]
    tell(service, admin_token, wrong).assert_problem(
        422, "[1].reference", "[2].integration", "[3].phone_number", "[4].ends_at", "[5].metadata", "[6].reference",
        "[7].colour", "[8].reference",
    )  # fmt: skip
    tell(service, admin_token, right | {"batch": 5.5}).assert_problem(422, "batch")
    too_long = tell(service, admin_token, right | {"reference": "x" * 256}).json()["errors"]["reference"]
    assert too_long == ["Length must be between 1 and 255."]
    for nothing in ([], ["x"], "x", 7, None):
        tell(service, admin_token, nothing).assert_problem(422, *(["[0].body"] if nothing == ["x"] else ["body"]))
    tell(service, admin_token, b"{").assert_problem(422, "body")
    tell(service, admin_token, b"[" * 100_000).assert_problem(422, "body")
    tell(service, admin_token, [right] * 10_001).assert_problem(422, "body")
    for odd in (b"NaN", b"1e999", b"-Infinity", b'{"a":' * 300 + b"1" + b"}" * 300, b"[" * 900 + b"]" * 900):
        body = b'{"integration": "wrong-calls", "reference": "r-1", "metadata": {"a": ' + odd + b"}}"
        tell(service, admin_token, body).assert_problem(422, "metadata")
    assert _status_of_a_post(service, admin_token, 9 << 20) == b"413"
    tell(service, admin_token, right | {"metadata": {"a": "x" * 20_000}}).assert_problem(422, "metadata")
    assert service.records("expected-calls", integration=sender.name) == []


def _status_of_a_post(service: Service, token: str, length: int) -> bytes:
    """Of one that declares so many bytes, and waits for the answer before it sends them."""
    lines = ["POST /api/v1/expected-calls HTTP/1.1", "Host: a", f"Authorization: Bearer {token}"]
    head = "\r\n".join([*lines, f"Content-Length: {length}", "", ""])
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(head.encode())
        return connection.recv(4096).split()[1]


def test_contradictions_are_refused_and_unknown_values_are_completed(service: Service, admin_token: str) -> None:
    sender = service.sender("contradicting")
    call = {"integration": sender.name, "reference": "r-1"}
    assert tell(service, admin_token, call).status == 200
    [filled] = tell(service, admin_token, call | {"phone_number": PHONE_RAW, "call_id": "7"}).json()["data"]
    assert (filled["phone_number"], filled["call_id"]) == ("+16175551234", "7")
    tell(service, admin_token, call | {"call_id": "8"}).assert_problem(409)
    [kept] = service.records("expected-calls", integration=sender.name)
    assert kept["call_id"] == "7"


def test_numbers_are_masked_without_reveal_and_only_admins_register(service: Service, admin_token: str) -> None:
    sender = service.sender("masked-calls")
    call = {"integration": sender.name, "reference": "r-1", "phone_number": PHONE_RAW}
    tell(service, admin_token, call | {"metadata": {"other": "617 555 9999"}})
    reader = service.read_token
    [record] = service.get("expected-calls", reader, integration=sender.name).json()["data"]
    assert record["phone_number"] == "+1617•••1234"
    assert record["metadata"] == {"other": "•••9999"}
    service.get("expected-calls", reader, phone_number="+16175551234").assert_problem(403)
    service.get("expected-calls", reader, metadata__contains="617").assert_problem(403)
    service.get("outcomes", reader, metadata__contains="617").assert_problem(403)
    for token in (reader, service.token):
        tell(service, token, call).assert_problem(403)
    assert service.get("missing", reader, integration=sender.name).json()["data"][0]["expected"] == 1


def test_expected_calls_are_listed_as_all_records_are(service: Service, admin_token: str) -> None:
    sender = service.sender("listed-calls")
    calls = [
        {"integration": sender.name, "reference": f"r-{number}", "batch": f"b-{number % 3}"} for number in range(25)
    ]
    tell(service, admin_token, calls)
    asked = {"integration": sender.name, "sort": "reference", "limit": 10, "count": "exact"}
    pages = list(service.pages("expected-calls", **asked))
    assert [len(page["data"]) for page in pages] == [10, 10, 5]
    assert pages[0]["count"] == {"value": 25, "kind": "exact"}
    listed = [one["reference"] for page in pages for one in page["data"]]
    assert listed == sorted(f"r-{number}" for number in range(25))
    assert len(service.records("expected-calls", integration=sender.name, batch="b-1,b-2")) == 16
    service.get("expected-calls", state="lost").assert_problem(422, "state")
    found = service.get("missing", integration=sender.name, batch="b-0").json()["data"]
    assert [(one["batch"], one["expected"]) for one in found] == [("b-0", 9)]


def expect(service: Service, file: Path, text: str | bytes) -> Any:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return service.json("plum", "expect", str(file))


def test_a_file_of_calls_is_registered_and_its_other_columns_are_metadata(service: Service, tmp_path: Path) -> None:
    sender = service.sender("filed")
    head = "integration,reference,call_id,phone_number,batch,ends_at,who\n"
    rows = f'{sender.name},r-1,,6175551234,spring,1772971200,"Ann, Mrs"\n{sender.name},,77,,,,\n'
    assert expect(service, tmp_path / "calls.csv", "\ufeff" + head + rows) == {"registered": 2}
    assert expect(service, tmp_path / "calls.csv", head + rows) == {"registered": 2}
    by_reference = {one["reference"]: one for one in service.records("expected-calls", integration=sender.name)}
    assert by_reference["r-1"]["metadata"] == {"who": "Ann, Mrs"}
    assert by_reference["r-1"]["ends_at"] == "2026-03-08T12:00:00Z"
    assert by_reference[None]["call_id"] == "77"


def test_a_file_that_names_a_column_twice_registers_nothing(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "calls.csv"
    file.write_text(f"integration,call_id,call_id\n{service.sender('filed-twice').name},7,8\n")
    service.assert_one_line("plum", "expect", str(file), says="call_id")
    assert service.records("expected-calls", integration="filed-twice") == []


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("filed-wrong,r-1,\nfiled-wrong,,\n", "line 3: reference: give reference or call_id"),
        ("nobody,r-1,\n", "line 2: integration: no integration has this name"),
        ("filed-wrong,r-1,12\n", "line 2: phone_number"),
        ("filed-wrong,r-1,,,,,\n", "line 2"),
        ("", "no row below its header"),
        ('filed-wrong,"r-1\n', "no CSV"),
    ],
)
def test_a_file_with_a_wrong_row_registers_nothing(service: Service, tmp_path: Path, rows: str, says: str) -> None:
    if not any(one["name"] == "filed-wrong" for one in service.json("integration", "list")):
        service.sender("filed-wrong")
    file = tmp_path / "calls.csv"
    file.write_text(f"integration,reference,phone_number\n{rows}")
    service.assert_one_line("plum", "expect", str(file), says=says)
    assert service.records("expected-calls", integration="filed-wrong") == []


def test_a_large_file_is_registered_whole(service: Service, tmp_path: Path) -> None:
    sender: Sender = service.sender("filed-large")
    rows = "".join(f"{sender.name},r-{number}\n" for number in range(3000))
    assert expect(service, tmp_path / "calls.csv", f"integration,reference\n{rows}") == {"registered": 3000}
    counted = service.get("expected-calls", integration=sender.name, count="exact", limit=1).json()["count"]
    assert counted["value"] == 3000


def test_files_and_filters_know_metadata_as_the_list_does(service: Service, admin_token: str) -> None:
    sender = service.sender("metadata-files", "insight")
    values = [{"who": "Ann \u2028 O'Neil, 617 555 1234"}, {"n": 5, "deep": {"x": [1, None]}}, {}]
    calls = [
        {"integration": sender.name, "reference": f"r-{at}", "metadata": value} for at, value in enumerate(values)
    ]
    tell(service, admin_token, calls)
    for at in range(3):
        sender.assert_accepted(b'{"status":"completed"}', below=f"/call/r-{at}")
    for token in (service.token, service.read_token):
        asked = {"integration": sender.name, "sort": "reference"}
        listed = [one["metadata"] for one in service.get("outcomes", token, **asked).json()["data"]]
        lines = service.get("outcomes.ndjson", token, **asked).body.decode().splitlines()
        assert [json.loads(line)["metadata"] for line in lines] == listed
        text = service.get("outcomes.csv", token, fields="reference,metadata", **asked).body.decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        assert [json.loads(row["metadata"]) for row in rows] == listed
        assert (listed == values) == (token == service.token)
    assert listed[0] == {"who": "Ann \u2028 O'Neil, •••1234"}
    found = service.records("outcomes", integration=sender.name, metadata__contains="deep")
    assert [one["reference"] for one in found] == ["r-1"]
    assert len(service.records("outcomes", integration=sender.name, metadata__null="true")) == 1


def test_many_lists_at_a_time_take_one_place_each(service: Service, admin_token: str) -> None:
    found = together(12, lambda _: service.get("expected-calls", limit=1).status)
    assert found == [200] * 12
