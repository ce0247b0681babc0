"""What the audit log keeps of a question holds no phone number; and nothing is revealed that it cannot keep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from app.config import from_environment
from app.errors import StoreUnavailable
from app.masking import mask_digits, mask_parameters
from app.model import AuditEntry, Scope, Token, hashed
from app.store import tokens
from app.store.audit import write
from app.store.database import Database
from app.store.pagination import page
from app.store.query.question import Question, Records
from app.web import cursors
from app.web.auth import Keyring, Secrets
from app.web.exports import SCHEMAS as EXPORTS
from app.web.fields import Text
from app.web.filters import ListSchema
from app.web.parameters import Filter
from app.web.schemas import AuditSchema, DeliverySchema, OutcomeSchema
from tests.conftest import wait_until
from tests.web.conftest import running

SCHEMAS = [ListSchema.about(OutcomeSchema), ListSchema.about(DeliverySchema), *EXPORTS.values()]
TEXTS = sorted(
    name
    for name, field in {name: field for schema in SCHEMAS for name, field in schema.fields.items()}.items()
    if isinstance(field, Filter) and isinstance(field.inner, Text)
)
NUMBERS = ["6175551234", "16175551234", "+16175551234", "(617) 555-1234", "617.555.1234", "+44 20 7946 0958"]
BEFORE, AFTER = ["", "a", "call ", "x:", "a,"], ["", ",b", " b", ";ani=1"]


@given(st.lists(st.tuples(*map(st.sampled_from, (TEXTS, BEFORE, NUMBERS, AFTER))), min_size=1))
def test_no_number_stays_in_any_parameter_that_takes_texts(asked) -> None:
    kept = mask_parameters([(name, f"{before}{number}{after}") for name, before, number, after in asked])
    assert [name for name, _ in kept] == [name for name, *_ in asked]
    for (_, _, number, _), (_, value) in zip(asked, kept, strict=True):
        assert "•••" in value
        assert re.sub(r"\D", "", number) not in re.sub(r"\D", "", value)


@given(st.sampled_from([name for name in TEXTS if re.search("^phone|^query|contains", name)]), st.text())
def test_search_texts_for_phones_and_within_texts_are_not_logged(name, value) -> None:
    assert mask_parameters([(name, value)]) == [(name, "•••")]


def test_a_cursor_by_phone_contains_a_phone_and_is_not_logged() -> None:
    wanted = ListSchema.about(OutcomeSchema).load({"sort": ["phone_number"]}).question
    mark = cursors.write(OutcomeSchema(), wanted, ["+16175551234", uuid4()], backwards=False)
    asked = [("cursor", mark), ("sort", "phone_number")]
    assert mask_parameters(asked) == [("cursor", "•••"), ("sort", "phone_number")]


def test_a_parameter_that_is_not_a_phone_is_logged_as_sent() -> None:
    asked = [
        ("since", "2026-03-08T14:30:00Z"),
        ("ended_at__lt", "2026-03-08"),
        ("status", "completed,failed"),
        ("id", "61755512-3400-4000-8000-617555123400"),
        ("sha256", "6175551234" * 6 + "abcd"),
        ("batch", "spring 2026"),
        ("limit", "1000"),
    ]
    assert mask_parameters(asked) == asked


@given(st.sampled_from(["integration", "batch", "call_id__prefix", "fields", "unheard_of"]), st.text("0123456789- x"))
def test_other_texts_are_logged_masked(name, value) -> None:
    assert mask_parameters([(name, value)]) == [(name, mask_digits(value))]


# --- over the application


@pytest.fixture
def database(store_url) -> Iterator[Database]:
    database = Database(store_url)
    yield database
    database.close()


@pytest.fixture
def app(database, store_url, tmp_path) -> Iterator[Flask]:
    with running(
        from_environment({"PLUM_DATABASE_URL": store_url, "PLUM_SPOOL_DIR": str(tmp_path / "spool")})
    ) as made:
        yield made


def entries(database: Database) -> list[dict[str, Any]]:
    return page(database, Question(records=Records.AUDIT)).rows


def bearer(database: Database, scope: Scope) -> dict[str, str]:
    secret = tokens.add_token(database, scope.value, scope, datetime.now(UTC))
    return {"Authorization": f"Bearer {secret}"}


def lose_the_log(database: Database) -> None:
    with database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE audit")


def test_nothing_is_revealed_without_an_audit_entry(app, database) -> None:
    reveal, read, admin = (bearer(database, scope) for scope in (Scope.REVEAL, Scope.READ, Scope.ADMIN))
    lose_the_log(database)
    client = app.test_client()
    for path in (
        "outcomes",
        "deliveries",
        "facets?fields=phone_number",
        "drift",
        "outcomes.csv",
        "redial.csv",
        "live",
    ):
        answer = client.get(f"/api/v1/{path}", headers=reveal)
        assert (answer.status_code, answer.content_type) == (503, "application/problem+json"), path
        assert "audit log cannot be written" in answer.json["detail"]
        assert answer.headers["Retry-After"]
    assert client.get("/api/v1/outcomes.csv", headers=read).status_code == 503
    assert client.post(f"/api/v1/deliveries/{uuid4()}/reprocess", headers=admin).status_code == 503
    assert client.get("/api/v1/outcomes", headers=read).status_code == 200
    assert client.get("/api/v1/summary", headers=reveal).status_code == 200


def test_a_live_stream_that_is_refused_leaves_no_listener(app, database) -> None:
    reveal = bearer(database, Scope.REVEAL)
    lose_the_log(database)
    assert app.test_client().get("/api/v1/live", headers=reveal).status_code == 503
    assert not app.extensions["plum"].feed._streams


def test_views_that_reveal_nothing_are_not_audited(app, database) -> None:
    read, reveal = bearer(database, Scope.READ), bearer(database, Scope.REVEAL)
    client = app.test_client()
    client.get("/api/v1/outcomes", headers=read)
    client.get("/api/v1/audit", headers=reveal)
    client.get("/api/v1/outcomes?nobody=1", headers=reveal)
    client.get(f"/api/v1/outcomes/{uuid4()}", headers=reveal)
    assert entries(database) == []


def test_an_entry_is_as_it_was_written(database) -> None:
    entry = AuditEntry(uuid4(), datetime(2026, 3, 8, tzinfo=UTC), "a", "b", [("c", "d")], uuid4(), "::1", 200)
    write(database, entry)
    assert entries(database) == [entry._asdict() | {"asked": [["c", "d"]]}]
    assert tuple(AuditSchema().fields) == AuditEntry._fields


# --- last use


def test_last_use_is_written_once_a_minute(database) -> None:
    began = datetime(2026, 3, 8, 12, tzinfo=UTC)
    tokens.add_token(database, "a", Scope.READ, began)
    seen = []
    for seconds in (0, 1, 59, 60, 61, 121, 100):
        tokens.note_use(database, "a", began + timedelta(seconds=seconds))
        [row] = tokens.list_tokens(database)
        seen.append((row["last_used_at"] - began).total_seconds())
    assert seen == [0, 0, 0, 0, 61, 61, 61]


def test_a_use_that_cannot_be_noted_costs_nothing_but_a_line_in_the_log(caplog) -> None:
    noted: list[str] = []

    def fail(name: str) -> None:
        noted.append(name)
        raise StoreUnavailable("away")

    known = Secrets(tokens={hashed("x").hex(): Token("a", Scope.READ)})
    keyring = Keyring(lambda: known, dict, lambda _: None, fail)
    assert [keyring.token("x"), keyring.token("x")] == [Token("a", Scope.READ)] * 2
    wait_until(lambda: "could not be recorded: away" in caplog.text)
    assert noted == ["a"]


def test_a_secret_that_opens_nothing_is_in_no_use() -> None:
    noted: list[str] = []
    assert Keyring(Secrets, dict, lambda _: None, noted.append).token("x") is None
    assert noted == []
