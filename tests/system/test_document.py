"""The OpenAPI document: it is valid and short, and whatever is asked by it is answered."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.system.conftest import ROOT, Sender, Service, dev_body

ENGINE = "postgresql"  # it refuses more values than SQLite does

LISTS = {"outcomes": "OutcomeFilters", "deliveries": "DeliveryFilters"}
OPERATORS = ["", "not", "gt", "gte", "lt", "lte", "prefix", "contains", "null"]
DOCUMENT_BYTES = 150_000


@pytest.fixture
def asked_about(sender: Sender) -> Sender:
    """A sender of some calls, and of one body that cannot be read."""
    for number, kind in enumerate(["voice", "busy", "noanswer"]):
        result = "Completed" if kind == "voice" else "Failed"
        sender.assert_accepted(dev_body(call_id=number, callee_type=kind, result=result), below="/batch/b")
    sender.assert_accepted(b"hello", verdict="quarantined")
    return sender


def parameters(document: dict[str, Any], path: str) -> list[dict[str, Any]]:
    """A path's parameters, those that others share too."""
    found = document["paths"][path].get("get", {}).get("parameters", [])
    return [
        document["components"]["parameters"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one
        for one in found
    ]


def as_sent(parameter: dict[str, Any], value: Any) -> dict[str, str]:
    """The query that a value of a parameter makes, by the parameter's style."""
    if isinstance(value, dict):
        assert (parameter["style"], parameter["explode"]) == ("form", True)
        return value
    if isinstance(value, list):
        assert (parameter["style"], parameter["explode"]) == ("form", False)
        return {parameter["name"]: ",".join(value)}
    return {parameter["name"]: json.dumps(value) if isinstance(value, bool) else str(value)}


def example(document: dict[str, Any], parameter: dict[str, Any]) -> Any:
    if parameter["name"] != "filters":
        return parameter.get("example")
    return document["components"]["schemas"][parameter["schema"]["$ref"].rpartition("/")[2]]["examples"][0]


def test_the_document_is_valid_and_needs_no_token(service: Service) -> None:
    answer = service.request("GET", "/api/openapi.json")
    document = answer.json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    live = parameters(document, "/api/v1/live")
    assert "Last-Event-ID" in {one["name"] for one in live if one["in"] == "header"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation.get("responses", {}).items() if method != "parameters" else ():
                assert status == "200" or response == {"$ref": "#/components/responses/Problem"}, path


def test_the_document_is_short_and_names_every_filter_once(service: Service) -> None:
    answer = service.request("GET", "/api/openapi.json")
    assert len(answer.body) <= DOCUMENT_BYTES
    document = answer.json()
    controls = ["since", "until", "tz", "sort", "limit", "cursor", "fields", "count"]
    assert [one["name"] for one in parameters(document, "/api/v1/outcomes")] == [*controls, "filters"]
    filters = parameters(document, "/api/v1/outcomes")[-1]
    assert (filters["in"], filters["style"], filters["explode"]) == ("query", "form", True)
    named = document["components"]["schemas"]["OutcomeFilters"]["properties"]
    assert {"status", "status__not", "attempts__gte", "extra__contains", "id__null", "weekday", "hour"} < named.keys()
    assert named.keys().isdisjoint([*controls, "status__between"])
    for path in ("/api/v1/outcomes.csv", "/api/v1/redial.csv", "/api/v1/facets", "/api/v1/summary", "/api/v1/live"):
        assert filters in parameters(document, path), path


def test_the_document_names_all_filters_that_there_are_and_no_others(service: Service, asked_about: Sender) -> None:
    schemas = service.request("GET", "/api/openapi.json").json()["components"]["schemas"]
    for path, component in LISTS.items():
        named = schemas[component]["properties"].keys()
        for field in service.get(path, limit=1).json()["data"][0]:
            names = {f"{field}__{operator}".removesuffix("__") for operator in OPERATORS}
            errors = service.get(path, **dict.fromkeys(names, "x")).json().get("errors", {})
            unknown = {name for name, wrong in errors.items() if wrong[0].startswith("unknown")}
            assert names & named == names - unknown != set()


def test_the_examples_of_the_document_work_as_they_are_tried_on_its_page(
    service: Service, asked_about: Sender
) -> None:
    ids = {"outcome_id": asked_about.outcomes()[0]["id"], "delivery_id": asked_about.deliveries()[0]["id"]}
    document = service.request("GET", "/api/openapi.json").json()
    tried = 0
    for path in document["paths"]:
        asked = {}
        for parameter in parameters(document, path) if not path.endswith("/live") else ():
            if parameter["in"] == "query" and (value := example(document, parameter)) is not None:
                asked |= as_sent(parameter, value)
        if asked:
            answer = service.get(path.format(**ids), service.admin_token, **asked)
            assert answer.status == 200, (path, answer.body)
            tried += 1
    assert tried == 17


def test_every_path_of_the_document_is_there(service: Service, asked_about: Sender) -> None:
    ids = {"outcome_id": asked_about.outcomes()[0]["id"], "delivery_id": asked_about.deliveries()[0]["id"]}
    for path, operations in service.request("GET", "/api/openapi.json").json()["paths"].items():
        if path.endswith("/live") or "get" not in operations:
            continue  # it never ends, or changes something
        query = {"fields": "status"} if path.endswith("facets") else {}
        status = 403 if path.endswith("/audit") else 200  # for admins alone
        assert service.get(path.format(**ids), **query).status == status


def test_the_documents_page_loads_nothing_from_elsewhere(service: Service) -> None:
    page = service.request("GET", "/api/docs")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    found = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert len(found) >= 3
    for name in found:
        assert not name.startswith(("http", "/"))
        assert service.request("GET", f"/api/{name}").status == 200
    service.request("GET", "/api/docs/..%2f..%2fapi.py").assert_problem(404)


def test_no_request_made_from_the_document_is_a_server_error(
    service: Service, asked_about: Sender, tmp_path: Path
) -> None:
    program = str(Path(sys.executable).parent / "schemathesis")
    command = [
        program, "--config-file", str(ROOT / "schemathesis.toml"), "run", "--phases", "examples,fuzzing,stateful",
        # Most questions bring a cursor, which is none of ours and is refused; enough are left that are answered.
        "-n", "20", "--seed", "1", "--generation-database", "none", "--no-color",
        # A stream never ends, each export is a process of its own, and the audit log is not for this token; they have
        # tests of their own.
        "--exclude-path-regex", r"/live|/audit|\.(csv|ndjson|xlsx|parquet)$",
        "-H", f"Authorization: Bearer {service.token}", f"http://127.0.0.1:{service.port}/api/openapi.json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
