"""What is new in a callback, told from its bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.drift import MAX_LENGTH, MOST, novelties
from app.interpret import interpret
from app.model import Delivery, Outcome

NOW = datetime(2026, 3, 8, tzinfo=UTC)
DEV = b"phone_number=16175551234&message_reference=a&call_id=1&result=Completed&callee_type=voice&attempts=1"
FUSE = {
    "phone_number": "'6173720293'",
    "status": "completed",
    "queued_timestamp": "1475095892",
    "duration": 3,
    "events": [{"event": "Queued", "timestamp": 1475095892}, {"event": "disconnected", "timestamp": "1475095928"}],
}


def read(body: bytes | dict) -> Outcome:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    outcome = interpret(Delivery(id=uuid4(), integration="i", received_at=NOW, body=content)).outcome
    assert outcome
    return outcome


def new(body: bytes | dict) -> list[tuple[str, str, str]]:
    return [(str(one.kind), one.field, one.value) for one in novelties(read(body))]


def events(*names: str, **more: object) -> dict:
    return FUSE | {"events": [{"event": name, "timestamp": 1475095892} | more for name in names]}


def test_documented_callbacks_show_nothing_new() -> None:
    assert new(DEV) == new(FUSE) == new({"call_details": FUSE, "success": True}) == []
    assert new({"status": "Cancelled", "events": [{"event": "canceled", "timestamp": "1429214474"}]}) == []
    assert new(b"result=COMPLETED&callee_type=fax") == new(b"result=Failed&callee_type=unknown") == []


@pytest.mark.parametrize(
    "body, expected",
    [
        (b"result=Abandoned&callee_type=voice", [("word", "status", "Abandoned")]),
        (b"result=Failed&callee_type=robot", [("word", "callee_type", "robot")]),
        (events("ringing", "ringing"), [("word", "event", "ringing")]),
        (FUSE | {"cost": 3.5, "Note": "x"}, [("field", "cost", "number"), ("field", "Note", "string")]),
        (FUSE | {"a": None, "b": True}, [("field", "a", "null"), ("field", "b", "boolean")]),
        (FUSE | {"a": [], "b": {"c": 1}}, [("field", "a", "array"), ("field", "b", "object")]),
        (events("queued", "dialing", leg=1), [("field", "events[].leg", "number")]),
        (FUSE | {"DURATION": "3 s", "duration": "3 s"}, [("problem", "duration", "not_a_number")]),
        (FUSE | {"status": 7}, [("word", "status", "7")]),
        (FUSE | {"status": ["completed"]}, [("problem", "status", "not_text")]),
        (events("queued", "dialing", timestamp="x"), [("problem", "events[].timestamp", "not_a_time")]),
        (FUSE | {"events": 7}, [("problem", "events", "not_a_list")]),
        (FUSE | {"events": [7]}, [("problem", "events[]", "not_an_event")]),
        (b"result=Completed&result=Failed&callee_type=voice", [("problem", "result", "given_twice")]),
    ],
)
def test_what_is_new_is_told_by_kind_field_and_value(body, expected) -> None:
    assert new(body) == expected


def test_the_values_of_unknown_fields_are_not_told() -> None:
    assert "6175551234" not in str(new(FUSE | {"contact": "6175551234", "list": [{"phone": 6175551234}]}))


def test_names_are_cut_and_few_are_kept_of_one_delivery() -> None:
    assert new(FUSE | {"x" * 999: 1}) == [("field", "x" * (MAX_LENGTH - 1) + "…", "number")]
    found = new(FUSE | {f"name{number}": number for number in range(MOST + 5)} | {"status": "odd"})
    assert (found[0], found[-1]) == (("word", "status", "odd"), ("field", "(others)", ""))
    assert len(found) == 1 + MOST + 1
    names = [f"e{number}" for number in range(MOST)]
    assert ("word", "(others)", "") not in new(events(*names, *names))
    found = new(events(*names, "one more") | {"cost": 1})
    assert found[-2:] == [("word", "(others)", ""), ("field", "cost", "number")]


scalars = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=9)
texts = st.text(max_size=9)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


@given(st.dictionaries(texts, values, max_size=5))
def test_whatever_comes_each_thing_is_told_once(fields) -> None:
    found = novelties(read(FUSE | {f"x{name}": value for name, value in fields.items()}))
    assert len(found) == len(set(found)) <= len(fields)
    assert bool(found) == bool(fields)
