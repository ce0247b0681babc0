"""What nobody knew, against all outcomes gone through one by one."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from app.analytics import drift as analytics_drift
from app.interpret import interpret
from app.model import Delivery
from app.plum import simulator
from app.store.readings import save
from tests.store.oracle import all_rows

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)
STRANGE = [
    b"&cost=3",
    b"&result=Odd",
    b"&attempts=many",
    b"&Leg[a]=1",
    b"&duration=1&duration=2",
    b"&x[1]=a&x[2]=b",
    b"",
]
RESULTS = {"completed", "failed", "canceled", "cancelled", "rejected", "uncalled"}
CALLEES = {
    "voice", "answeringmachine", "faxmachine", "fax", "busy", "noanswer", "informationtone", "linefailure",
    "noattempt", "unknown",
}  # fmt: skip
EVENTS = {"queued", "dialing", "connected", "disconnected", "canceled"}
FIELDS = set(analytics_drift._KNOWN["fields"])
TYPES = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}


def delivery(body: bytes, integration: str = "ours", seconds: int = 0) -> Delivery:
    return Delivery(id=uuid4(), integration=integration, received_at=NOW + timedelta(seconds=seconds), body=body)


def campaign(seed: int, calls: int = 100) -> list[Delivery]:
    """A misbehaving campaign, and calls told several times, some of whose bodies hold something new."""
    random = Random(seed)
    target = simulator.Target.parse("http://127.0.0.1/result/KEY")
    posts = [post for call in simulator.campaign([target], calls, seed=seed, misbehave=True) for post in call.posts]
    found = [
        delivery(post.body, random.choice(["ours", "theirs"]), number)._replace(
            content_type=post.headers.get("Content-Type")
        )
        for number, post in enumerate(posts)
    ]
    for _ in range(calls):
        body = b"result=Completed&callee_type=voice&call_id=%d" % random.randrange(calls // 3)
        strange = b"".join(random.sample(STRANGE, 2))
        found.append(delivery(body + strange, random.choice(["ours", "theirs"]), random.randrange(1000)))
    random.shuffle(found)
    return found


def shown(row: dict[str, Any]) -> set[tuple[str, str, str]]:
    """What in this outcome nobody knew."""
    found = set()
    no_text = {one["field"].lower() for one in row["problems"] if one["problem"] == "not_text"}
    words = [("status", row["status_raw"], RESULTS, {"status", "result"}),
             ("callee_type", row["callee_type_raw"], CALLEES, {"callee_type"})]  # fmt: skip
    words += [("event", event["event"], EVENTS, set()) for event in row["events"]]
    for field, word, known, names in words:
        if word is not None and word.strip().lower() not in known and not names & no_text:
            found.add(("word", field, word if len(word) <= 200 else f"{word[:199]}…"))
    for problem in row["problems"]:
        if (name := folded(problem["field"]).lower()) in FIELDS:
            found.add(("problem", name, problem["problem"]))
    for name, value in row["extra"].items():
        if folded(name).lower() not in FIELDS:
            kind = "null" if value is None else next(kind for of, kind in TYPES.items() if isinstance(value, of))
            found.add(("field", short(folded(name)), kind))
    return found


def folded(name: str) -> str:
    return re.sub(r"\[\d+\]", "[]", name)


def short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"


def expected(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], tuple[Any, ...]]:
    seen = defaultdict(list)
    for row in rows:
        for kind, field, value in shown(row):
            seen[kind, row["product"], row["integration"], field, value].append(row["received_at"])
    return {key: (len(times), min(times), max(times)) for key, times in seen.items()}


def found(router, since=None, among=None) -> dict[tuple[str, ...], tuple[Any, ...]]:
    rows = router.drift(since, among or {})
    assert [row["first_at"] for row in rows] == sorted((row["first_at"] for row in rows), reverse=True)
    return {
        (row["kind"], row["product"], row["integration"], row["field"], row["value"]): (
            row["count"], row["first_at"], row["last_at"],
        )
        for row in rows
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_drift_is_what_the_oracle_finds(database, router, seed) -> None:
    deliveries = campaign(seed)
    for start in range(0, len(deliveries), 50):
        save(database, [interpret(one) for one in deliveries[start : start + 50]])
    wanted = expected(all_rows(database))
    assert found(router) == wanted
    assert len(wanted) > 5
    since = NOW + timedelta(seconds=300)
    assert found(router, since, {"kind": ["word"], "integration": ["ours"]}) == {
        key: value for key, value in wanted.items() if key[0] == "word" and key[2] == "ours" and value[1] >= since
    }


@pytest.mark.parametrize(
    "fields, new",
    [
        ({"result": " odd "}, [("word", "status", " odd ")]),
        ({"result": "COMPLETED", "callee_type": "Voice"}, []),
        ({"result": "Completed", "callee_type": "robot"}, [("word", "callee_type", "robot")]),
        ({"result": 7}, [("word", "status", "7")]),
        ({"result": "Completed", "cost": 1.5}, [("field", "cost", "number")]),
        ({"result": "Completed", "big": 10**30, "no": None}, [("field", "big", "number"), ("field", "no", "null")]),
        ({"result": "Completed", "a": [], "b": {"c": 1}}, [("field", "a", "array"), ("field", "b", "object")]),
        ({"result": "Completed", "duration": "3 s"}, [("problem", "duration", "not_a_number")]),
    ],
)
def test_new_words_and_fields_of_a_body_are_found(database, router, fields, new) -> None:
    body = json.dumps({"call_id": "1", **fields}).encode()
    save(database, [interpret(delivery(body, "alone"))])
    rows = found(router, None, {"integration": ["alone"]})
    assert sorted((kind, field, value) for kind, _, _, field, value in rows) == sorted(new)


def test_items_beyond_the_limit_are_counted_as_others(database, router, monkeypatch) -> None:
    monkeypatch.setattr(analytics_drift, "_DRIFT", analytics_drift._DRIFT.replace("> 1000", "> 3"))
    for number in range(10):
        body = json.dumps({"call_id": str(number), "result": "Completed", f"field-{number}": "x"}).encode()
        save(database, [interpret(delivery(body, "alone", number))])
    rows = found(router, None, {"integration": ["alone"]})
    assert rows["field", "dev", "alone", "(others)", ""] == (
        7,
        NOW + timedelta(seconds=3),
        NOW + timedelta(seconds=9),
    )
    assert len(rows) == 4


def test_the_first_that_showed_it_is_named(database, router) -> None:
    sent = [delivery(b"result=Odd&call_id=%d" % number, "alone", -number) for number in range(5)]
    for one in sent:
        save(database, [interpret(one)])
    [row] = router.drift(None, {"integration": ["alone"]})
    assert row["delivery_id"] == sent[-1].id
