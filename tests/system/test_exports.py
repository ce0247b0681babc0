"""Exports: whole, typed, safe and masked over HTTP and from the command line; a broken one is seen as such."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, IncompleteRead
from io import BufferedReader
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from pyarrow import parquet

from tests.conftest import wait_until
from tests.system.conftest import Sender, Service, command_line, dev_body
from tests.system.faults import beside
from tests.system.test_api import DELIVERY_FIELDS, NESTED, OUTCOME_FIELDS

FORMS = ["csv", "ndjson", "xlsx", "parquet"]
FORMULAS = ["=1+1", "+1", "-1", "@x", "\tx", "\rx"]
TYPES = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
}


@pytest.fixture(scope="module")
def called(service: Service) -> Sender:
    """A sender whose calls' texts are of the dangerous kinds, and some numbers twice."""
    sender = service.sender("called")
    for number, text in enumerate([*FORMULAS, 'say "a, b"\r\n', "plain"]):
        phone = f"1617555{1000 + number // 2}"
        body = dev_body(call_id=f"c{number}", message_reference=text, phone_number=phone, attempts=number or None)
        sender.post(body + b"&odd=1", below="/batch/b%2C1").assert_completed()
    sender.post_json({"status": "canceled"}, "/call/r1").assert_completed()
    sender.post(b"hello").assert_completed()
    return sender


def download(service: Service, path: str, token: str | None = None, **filters: object) -> bytes:
    answer = service.get(path, token, **filters)
    assert answer.status == 200, answer.body
    form = path.rpartition(".")[2]
    assert answer.headers["Content-Type"] == TYPES[form]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith(f'attachment; filename="{path.partition(".")[0]}-')
    assert answer.headers["Content-Disposition"].endswith(f'.{form}"')
    return answer.body


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))


def as_cell(value: Any) -> str:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def test_csv_has_the_rows_of_the_list_in_its_order(service: Service, called: Sender, read_token: str) -> None:
    for token in (None, read_token):
        for raw in ("true", "false"):
            rows = rows_of(download(service, "outcomes.csv", token, integration="called", raw=raw))
            records = service.records("outcomes", token=token, integration="called")
            assert list(rows[0]) == OUTCOME_FIELDS
            cells = [{name: as_cell(value) for name, value in record.items()} for record in records]
            if raw == "false":
                cells = [
                    {
                        name: f"'{text}" if name not in NESTED and text[:1] in tuple("=+-@\t\r") else text
                        for name, text in row.items()
                    }
                    for row in cells
                ]
            assert rows == cells


def test_csv_is_rfc_4180_and_has_always_a_header(service: Service, called: Sender) -> None:
    content = download(
        service, "outcomes.csv", integration="called", fields="call_id,message_reference", sort="call_id"
    )
    lines = content.split(b"\n")
    assert lines[:2] == [b"call_id,message_reference", b"c0,'=1+1"]
    assert b'c6,"say ""a, b""' in content
    assert download(service, "outcomes.csv", integration="nobody").decode() == ",".join(OUTCOME_FIELDS) + "\n"
    assert download(service, "outcomes.csv", fields="batch", integration="nobody") == b"batch\n"


def test_ndjson_is_the_list_line_by_line(service: Service, called: Sender, read_token: str) -> None:
    for token in (None, read_token):
        lines = download(service, "outcomes.ndjson", token, integration="called", sort="call_id").splitlines()
        assert [json.loads(line) for line in lines] == service.records(
            "outcomes", token=token, integration="called", sort="call_id"
        )


def test_xlsx_has_types_and_no_formula(service: Service, called: Sender) -> None:
    content = download(service, "outcomes.xlsx", integration="called", sort="call_id")
    head, *rows = openpyxl.load_workbook(io.BytesIO(content)).active.iter_rows()
    assert [cell.value for cell in head] == OUTCOME_FIELDS
    records = service.records("outcomes", integration="called", sort="call_id")
    for row, record in zip(rows, records, strict=True):
        cells = dict(zip(OUTCOME_FIELDS, row, strict=True))
        assert {cell.data_type for cell in row} <= {"s", "n", "b", "d"}
        assert cells["phone_number"].value == record["phone_number"]
        assert cells["message_reference"].value == record["message_reference"]
        assert cells["attempts"].value == record["attempts"]
        assert cells["possible_duplicate"].value is record["possible_duplicate"]
        assert cells["ended_at"].data_type == "d"
        assert cells["ended_at"].value.isoformat()[:19] == record["ended_at"][:19]


def test_parquet_has_types(service: Service, called: Sender, read_token: str) -> None:
    table = parquet.read_table(io.BytesIO(download(service, "outcomes.parquet", integration="called")))
    assert table.column_names == OUTCOME_FIELDS
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert {types[name] for name in OUTCOME_FIELDS if name.endswith("_at")} == {"timestamp[us, tz=UTC]"}
    assert (types["attempts"], types["possible_duplicate"], types["phone_number"]) == ("int64", "bool", "string")
    records = service.records("outcomes", integration="called")
    assert table["phone_number"].to_pylist() == [record["phone_number"] for record in records]
    assert [json.loads(text) for text in table["extra"].to_pylist()] == [record["extra"] for record in records]
    masked = parquet.read_table(io.BytesIO(download(service, "outcomes.parquet", read_token, integration="called")))
    assert {text[5:8] for text in masked["phone_number"].to_pylist() if text} == {"•••"}


def test_columns_have_the_requested_order(service: Service, called: Sender) -> None:
    names = ["phone_number", "id", "extra", "ended_at"]
    for form in FORMS:
        content = download(service, f"outcomes.{form}", integration="called", fields=",".join(names))
        found = {
            "csv": lambda content: list(rows_of(content)[0]),
            "ndjson": lambda content: list(json.loads(content.splitlines()[0])),
            "xlsx": lambda content: [cell.value for cell in openpyxl.load_workbook(io.BytesIO(content)).active[1]],
            "parquet": lambda content: parquet.read_table(io.BytesIO(content)).column_names,
        }[form](content)
        assert found == names


def test_an_invalid_export_is_refused_before_a_byte_is_sent(
    service: Service, called: Sender, read_token: str
) -> None:
    for form in FORMS:
        service.get(f"outcomes.{form}", limit=5, cursor="x", count="exact", nonsense=1).assert_problem(
            422, "limit", "cursor", "count", "nonsense"
        )
        service.get(f"outcomes.{form}", sort="nothing", status="odd", raw="perhaps").assert_problem(
            422, "sort", "status", "raw"
        )
        service.get(f"outcomes.{form}", read_token, phone_number="+16175551234").assert_problem(403)
        service.request("GET", f"/api/v1/outcomes.{form}").assert_problem(401)
    service.get("deliveries.ndjson", read_token, fields="body_base64").assert_problem(403)
    service.get("outcomes.doc").assert_problem(404)


def test_redial_is_each_number_once_in_the_lists_order(service: Service, called: Sender, read_token: str) -> None:
    for sort in ("call_id", "-call_id", "-phone_number", "-ended_at"):
        content = download(service, "redial.csv", integration="called", sort=sort)
        records = service.records("outcomes", integration="called", sort=sort)
        numbers = dict.fromkeys(record["phone_number"] for record in records if record["phone_number"])
        assert content.decode() == "".join(f"{line}\n" for line in ["destination", *numbers])
        assert len(numbers) == 4
    service.get("redial.csv", read_token).assert_problem(403)
    service.get("redial.csv", fields="id", limit=1).assert_problem(422, "fields", "limit")


def test_deliveries_are_exported_with_bodies_for_reveal(service: Service, called: Sender, read_token: str) -> None:
    lines = download(service, "deliveries.ndjson", integration="called").splitlines()
    records = [json.loads(line) for line in lines]
    assert [list(record) for record in records] == [[*DELIVERY_FIELDS, "body_base64"]] * 10
    for record in records:
        assert base64.b64decode(record["body_base64"]) == called.body_of(record["id"])
    masked = json.loads(download(service, "deliveries.ndjson", read_token, integration="called").splitlines()[0])
    assert list(masked) == DELIVERY_FIELDS


# --- the command line


def test_the_command_returns_what_the_api_returns(service: Service, called: Sender, tmp_path: Path) -> None:
    content = download(service, "outcomes.csv", integration="called", status="completed")
    printed = service.ok("export", "--format", "csv", "--reveal", "integration=called", "status=completed")
    assert printed == content.decode().replace("\r\n", "\n").replace("\r", "\n")  # read as text
    out = tmp_path / "all.csv"
    service.ok("export", "--format", "csv", "--reveal", "--out", str(out), "integration=called", "status=completed")
    assert out.read_bytes() == content
    masked = service.ok("export", "--format", "csv", "integration=called", "fields=phone_number")
    assert "•••" in masked


def test_a_file_that_is_not_whole_has_not_its_name(service: Service, tmp_path: Path) -> None:
    out = tmp_path / "all.csv"
    for wrong in ("limit=3", "nonsense"):
        service.assert_one_line("export", "--format", "csv", "--out", str(out), wrong, says=wrong.split("=")[0])
    service.assert_one_line("export", "--format", "csv", "phone_number=1", says="--reveal")
    service.assert_one_line(
        "export", "--format", "csv", "--out", str(tmp_path / "no" / "x"), says="cannot be written"
    )
    assert list(tmp_path.iterdir()) == []


# --- breaking off


@pytest.fixture(scope="module")
def many(service: Service) -> Iterator[Sender]:
    """Enough that an export is under way for a while when nobody reads it: more than the pipes and sockets hold."""
    sender = service.sender("many")
    sender.post(dev_body(call_id="x", extra="y" * 2000)).assert_completed()
    with service.sql() as connection:
        sqlite = service.database_url.startswith("sqlite")
        columns = [name for name in columns_of(connection, sqlite) if name != "id"]
        key, series = (
            (
                "lower(hex(randomblob(16)))",
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)",
            )
            if sqlite
            else ("gen_random_uuid()", "WITH n(i) AS (SELECT generate_series(1, 20000))")
        )
        names = ", ".join(columns)
        connection.execute(
            f"INSERT INTO outcomes (id, {names}) {series} SELECT {key}, {names} FROM outcomes, n "
            "WHERE integration = 'many'"
        )
        service.tell_journal(connection, "many")
    wait_until(lambda: service.get("summary").status == 200, 60)  # the copy has followed
    yield sender
    sender.forget()


def columns_of(connection: Any, sqlite: bool) -> list[str]:
    cursor = connection.execute("SELECT * FROM outcomes LIMIT 0")
    return [column[0] for column in cursor.description] if sqlite else [column.name for column in cursor.description]


def makers(service: Service) -> list[int]:
    """The processes that make files of deliveries.

    With those that die: at their low priority that takes seconds on a busy machine, and holds their places.
    """
    lines = {pid: command_line(pid) for pid in service._group()}
    return [pid for pid, line in lines.items() if not line or b"app.exporting" in line]


def begun(service: Service, file: str = "outcomes.csv", token: str | None = None) -> HTTPConnection:
    connection = HTTPConnection("127.0.0.1", service.port, timeout=30)
    headers = {"Authorization": f"Bearer {token or service.token}"}
    connection.request("GET", f"/api/v1/{file}?integration=many", headers=headers)
    return connection


def test_a_large_export_is_whole(service: Service, many: Sender) -> None:
    assert download(service, "outcomes.csv", integration="many").count(b"\n") == 20002


def maker_of(service: Service, file: str) -> int:
    """The process that makes this file: that of the copy, or one of its own."""
    maker = makers(service)[0] if file.endswith("xlsx") else beside(service, "analytics")
    assert maker
    return maker


@pytest.mark.parametrize("file", ["outcomes.csv", "outcomes.ndjson", "outcomes.xlsx"])
def test_an_export_whose_maker_dies_is_seen_to_be_broken(service: Service, many: Sender, file: str) -> None:
    with closing(begun(service, file)) as connection:
        answer = connection.getresponse()
        assert answer.status == 200
        os.kill(maker_of(service, file), signal.SIGKILL)
        with pytest.raises((IncompleteRead, ConnectionError)):
            answer.read()
    wait_until(lambda: makers(service) == [] and beside(service, "analytics"))
    assert service.get("outcomes", limit=1).status == 200
    wait_until(lambda: service.get("summary").status == 200)


def test_an_export_breaks_off_when_its_token_is_revoked(service: Service, many: Sender) -> None:
    """Nobody reads it meanwhile, as if it were long."""
    token = service.new_token("leaked", "reveal")
    with closing(begun(service, "outcomes.csv", token)) as connection:
        answer = connection.getresponse()
        service.ok("token", "revoke", "leaked")
        service.assert_everywhere_soon(401, "/api/v1/outcomes?limit=1", Authorization=f"Bearer {token}")
        with pytest.raises((IncompleteRead, ConnectionError)):
            answer.read()


def by_http_1_0(connection: socket.socket, service: Service, sender: str) -> BufferedReader:
    """The answer, which ends with the connection."""
    path = f"/api/v1/outcomes.csv?integration={sender}"
    connection.sendall(f"GET {path} HTTP/1.0\r\nAuthorization: Bearer {service.token}\r\n\r\n".encode())
    answer = connection.makefile("rb")
    assert answer.readline().startswith(b"HTTP/1.0 200")
    return answer


def test_over_http_1_0_a_broken_export_ends_in_a_reset(service: Service, many: Sender) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        answer = by_http_1_0(connection, service, "many")
        os.kill(maker_of(service, "outcomes.csv"), signal.SIGKILL)
        with pytest.raises(ConnectionResetError):
            answer.read()
    wait_until(lambda: service.get("summary").status == 200)


def test_over_http_1_0_an_export_whose_worker_dies_ends_in_a_reset(service: Service, many: Sender) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        answer = by_http_1_0(connection, service, "many")
        for worker in service.workers():
            os.kill(worker, signal.SIGKILL)
        with pytest.raises(ConnectionResetError):
            answer.read()
    wait_until(lambda: len(service.workers()) == 2)


def test_over_http_1_0_a_whole_export_ends_as_usual(service: Service, called: Sender) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        body = by_http_1_0(connection, service, "called").read().partition(b"\r\n\r\n")[2]
    assert body == download(service, "outcomes.csv", integration="called")


def test_a_client_that_disconnects_leaves_no_process_behind(service: Service, many: Sender) -> None:
    connection = begun(service, "outcomes.xlsx")
    assert connection.getresponse().status == 200
    assert len(makers(service)) == 1
    connection.close()
    wait_until(lambda: makers(service) == [])


def test_few_exports_run_at_once_and_others_get_503(service: Service, many: Sender) -> None:
    connections: list[HTTPConnection] = []

    def four_have_begun() -> bool:
        """False while an export that an earlier test broke off has not ended yet."""
        for connection in connections:
            connection.close()
        connections[:] = [begun(service) for _ in range(4)]
        return [connection.getresponse().status for connection in connections] == [200] * 4

    try:
        wait_until(four_have_begun, 30)
        refused = service.get("outcomes.csv")
        refused.assert_problem(503)
        assert int(refused.headers["Retry-After"]) > 0
        assert service.get("outcomes", limit=1).status == 200
    finally:
        for connection in connections:
            connection.close()
    wait_until(lambda: service.get("outcomes.csv", integration="called").status == 200)
