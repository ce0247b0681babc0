"""Whatever is asked, the answer is one of the API's: records, or words on what is wrong. Nothing is a fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config import from_environment
from app.errors import TooSlow
from app.model import Scope
from app.store import migrating, pagination
from app.store.database import Database
from app.store.tokens import add_token
from app.web.filters import FacetsSchema, ListSchema, SummarySchema
from app.web.schemas import DeliverySchema, OutcomeSchema
from tests.store.oracle import add_odd_texts
from tests.web.conftest import running

SCHEMAS = {
    "outcomes": ListSchema.about(OutcomeSchema),
    "deliveries": ListSchema.about(DeliverySchema),
    "facets": FacetsSchema.about(OutcomeSchema),
    "summary": SummarySchema.about(OutcomeSchema),
}
PUBLIC = "https://results.example.com/plum/"
LIKELY = [
    "completed", "human", "dev", "http", "true", "false", "0", "1", "2147483647", "2147483648", "9" * 400, "-1",
    "2026-03-08", "0001-01-01", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-23:59", "America/New_York", "UTC",
    "00000000-0000-0000-0000-000000000000", "0" * 64, "status,-batch", "-id", "ended_at", "hour", "week,status",
    "exact", "estimated", "a,b", ",", "", "%", "_", "\\", "'; DROP TABLE outcomes; --", "\0", "\ud800", "\U0010ffff",
    "\ud7ff", "é" * 900, "1," * 900, "[" * 900, "W10", "null", "NaN", "id,id",
]  # fmt: skip


def asking() -> st.SearchStrategy[tuple[str, list[tuple[str, str]]]]:
    """A list and parameters, most of which it has."""

    def parameters(path: str) -> st.SearchStrategy[tuple[str, list[tuple[str, str]]]]:
        names = st.sampled_from([*SCHEMAS[path].fields, "nobody", "__not", "batch__like"])
        controls = st.sampled_from([*(SCHEMAS[path].fields.keys() - SCHEMAS["facets"].fields.keys()), "fields", "tz"])
        values = st.sampled_from(LIKELY) | st.text(max_size=9)
        return st.tuples(st.just(path), st.lists(st.tuples(controls | names, values), max_size=4))

    return st.sampled_from(list(SCHEMAS)).flatmap(parameters)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def client(request, tmp_path_factory) -> Iterator[FlaskClient]:
    directory = tmp_path_factory.mktemp("answers")
    sqlite = f"sqlite:///{directory / 'outcomes.db'}"
    url = sqlite if request.param == "sqlite" else request.getfixturevalue("cluster").create()
    database = Database(url)
    migrating.migrate(database)
    add_odd_texts(database)
    tokens = {scope: add_token(database, scope.value, scope, datetime.now(UTC)) for scope in Scope}
    environment = {"PLUM_DATABASE_URL": url, "PLUM_SPOOL_DIR": str(directory), "PLUM_PUBLIC_URL": PUBLIC}
    with running(from_environment(environment)) as app:
        made = app.test_client()
        made.tokens = {scope: {"Authorization": f"Bearer {token}"} for scope, token in tokens.items()}
        yield made
    database.close()


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=asking(), scope=st.sampled_from(Scope))
def test_any_question_is_answered_refused_or_corrected(client, asked, scope) -> None:
    path, parameters = asked
    query = [(name, value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")) for name, value in parameters]
    answer = client.get(f"/api/v1/{path}", query_string=query, headers=client.tokens[scope])
    assert answer.status_code in ({200, 422} | ({403} if scope is Scope.READ else set())), answer.text
    if answer.status_code == 422:
        assert set(answer.json["errors"]) <= {name for name, _ in parameters} | {"fields"}
    elif answer.status_code == 200:
        assert "data" in json.loads(answer.data)


def test_a_question_that_takes_too_long_is_answered_with_how_to_narrow_it(client, monkeypatch) -> None:
    def slow(*_: object) -> None:
        raise TooSlow("narrow it")

    monkeypatch.setattr(pagination, "page", slow)
    answer = client.get("/api/v1/outcomes", headers=client.tokens[Scope.READ])
    assert (answer.status_code, answer.json["detail"]) == (503, "narrow it")
    assert answer.headers["Retry-After"] == "60"  # the same question would take as long again
    assert answer.mimetype == "application/problem+json"


@pytest.mark.parametrize(
    "came_to, led_to",
    [
        ("http://results.example.com", "https://results.example.com/plum/api/v1/outcomes?"),  # a proxy ends TLS
        ("http://10.0.0.7:8000", "http://10.0.0.7:8000/api/v1/outcomes?"),
    ],
)
def test_links_between_pages_keep_the_clients_address(client, came_to, led_to) -> None:
    answer = client.get("/api/v1/outcomes?limit=1", base_url=came_to, headers=client.tokens[Scope.READ])
    assert answer.json["next"].startswith(led_to)
    assert answer.headers["Link"].startswith(f"<{led_to}")


def test_pages_of_large_records_are_followed_by_their_links_there_and_back(client, monkeypatch) -> None:
    headers = client.tokens[Scope.READ]

    def followed(link: str, way: str) -> list[dict]:
        """The answers from this one to the end of its direction."""
        found = [client.get(link, headers=headers).json]
        while found[-1][way]:
            found.append(client.get(found[-1][way], headers=headers).json)
        return found

    [whole] = followed("/api/v1/outcomes?limit=1000", "next")
    monkeypatch.setattr(pagination, "PAGE_BYTES", 0)
    there = followed("/api/v1/outcomes?limit=1000", "next")
    back = followed(there[-1]["prev"], "prev")
    assert [answer["data"] for answer in there] == [[record] for record in whole["data"]]
    assert [answer["data"] for answer in back] == [[record] for record in whole["data"][-2::-1]]
