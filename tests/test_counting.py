"""What is counted: each delivery once, by words that the code itself uses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from app import counting
from app.assembly import group_reader, saver
from app.config import Settings
from app.gunicorn_worker import LENGTH_REQUIRED, OVERLOAD, REFUSALS, UNEXPECTED
from app.identity import new_id
from app.model import Delivery, Product
from app.store.database import Database
from app.web.parts import now
from app.web.result import _REFUSALS as OF_ERRORS

APP = Path(__file__).parent.parent / "app"
BODY = b"result=Oops&callee_type=parrot&attempts=many&duration=70&Call_Id=%d"


def in_code(pattern: str) -> set[str]:
    return {word for file in APP.rglob("*.py") for word in re.findall(pattern, file.read_text())}


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def test_every_reason_for_quarantine_begins_at_0() -> None:
    told = in_code(r'Unreadable\("(\w+)"') | in_code(r'reason="(store_refused)"') | {"cut_short", "not_understood"}
    assert set(counting.QUARANTINE_REASONS) == told


def test_every_reason_for_refusal_begins_at_0() -> None:
    by_server = {one.reason for one in (*dict(REFUSALS).values(), LENGTH_REQUIRED, OVERLOAD, UNEXPECTED)}
    by_us = in_code(r'REFUSED\.labels\(reason="(\w+)"') | {*OF_ERRORS.values(), "store_unavailable"}
    assert set(counting.REFUSAL_REASONS) == by_server | by_us | {"api", "unknown_url"}


@pytest.fixture
def database(store_url):
    database = Database(store_url)
    yield database
    database.close()


def test_a_delivery_that_is_stored_twice_is_counted_once(database) -> None:
    save = saver(database)
    sent = Delivery(new_id(now()), "i", now(), BODY % 1, Product.DEV)
    reading = group_reader(Settings())([sent])
    names = [
        ("plum_problems_total", {"field": "attempts"}),
        ("plum_unknown_words_total", {"field": "status"}),
        ("plum_unknown_words_total", {"field": "callee_type"}),
        ("plum_call_duration_seconds_count", {}),
        ("plum_outcomes_total", {"product": "dev", "disposition": "unknown", "callee_type": "unknown"}),
    ]
    before = [count(name, **labels) for name, labels in names]
    save(reading + reading)
    save(reading)
    assert [count(name, **labels) for name, labels in names] == [one + 1 for one in before]


def test_no_field_that_a_sender_makes_up_becomes_a_label(database) -> None:
    save = saver(database)
    before = count("plum_problems_total", field="other")
    body = b"result=Completed&callee_type=voice&call_id=7&mine=1&mine=2"
    save(group_reader(Settings())([Delivery(new_id(now()), "i", now(), body, Product.DEV)]))
    assert count("plum_problems_total", field="other") == before + 1
    assert REGISTRY.get_sample_value("plum_problems_total", {"field": "mine"}) is None
