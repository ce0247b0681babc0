"""Summaries and facets against a brute-force oracle, over days on which clocks change, on both engines."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from math import ceil
from random import Random
from typing import Any
from uuid import UUID, uuid4, uuid5
from zoneinfo import ZoneInfo

import pytest

from app.errors import TooBroad
from app.interpret import interpret
from app.model import Delivery
from app.store import summary
from app.store.facets import facets
from app.store.questions import Condition, Operator, Question, Records
from app.store.readings import save
from app.store.summary import FIELDS, summarise
from tests.store.oracle import JSON_FIELDS, add_odd_texts, all_rows, chosen

ZONES = [
    "UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana",
    "America/Sao_Paulo", "Pacific/Apia", "America/St_Johns",
]  # fmt: skip
# Around changes of the clock, ends of months and of years, and where SQLite would round up.
MOMENTS = [
    "2026-03-08T05:00", "2026-03-08T07:00", "2026-11-01T05:00", "2026-11-01T06:00", "2026-11-01T04:00",
    "2026-03-29T01:00", "2026-10-25T00:00", "2026-10-25T01:00", "2026-04-04T15:00", "2026-10-03T15:30",
    "2018-11-04T03:00", "2018-02-18T02:00", "2025-12-31T18:15", "2026-01-01T00:00", "2011-12-30T10:00",
    "2010-11-07T02:31", "2010-03-14T03:31", "2024-02-29T23:00", "2000-01-01T00:00", "2099-12-31T23:45",
]  # fmt: skip
QUESTION = Question(records=Records.OUTCOMES)


@pytest.fixture
def filled(database):
    """Calls on either side of each of the moments, and at it."""
    random, readings = Random(9), []
    for number in range(400):
        moment = datetime.fromisoformat(random.choice(MOMENTS)).replace(tzinfo=UTC)
        moment += random.choice(
            [timedelta(), timedelta(microseconds=-1), timedelta(minutes=random.randint(-180, 180))]
        )
        duration = random.choice(["", "0", "7", "12", "30", "31", str(random.randint(1, 3000))])
        kind = random.choice(["voice", "answeringmachine", "busy", "unknown"])
        body = f"result=Completed&call_id={number}&callee_type={kind}&attempts={random.choice(['', 1, 2])}"
        delivery = Delivery(
            id=uuid5(UUID(int=1), str(number)), integration=random.choice("ab"), received_at=moment,
            body=f"{body}&duration={duration}".encode(), batch=random.choice([None, "x", "é", "Z"]),
        )  # fmt: skip
        readings.append(interpret(delivery))
    save(database, readings)
    return database


def bucket_start(moment: datetime, bucket: str, zone: ZoneInfo) -> datetime:
    """The wall clock's, by Python's own time zones."""
    start = entered_hour(moment, zone) if bucket == "hour" else midnight(moment.astimezone(zone), bucket)
    start = start.astimezone(UTC).astimezone(zone)
    return start.replace(tzinfo=timezone(start.utcoffset()))  # else Python takes the two of an hour for the same


def midnight(local: datetime, bucket: str) -> datetime:
    start = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if bucket == "week":
        start -= timedelta(days=start.weekday())
    return start.replace(day=1) if bucket == "month" else start


@cache
def entered_hour(moment: datetime, zone: ZoneInfo) -> datetime:
    """Back minute by minute to where the clock came into the hour that it shows."""
    at = moment.replace(second=0, microsecond=0)
    while (local := at.astimezone(zone)).minute:
        if (at - timedelta(minutes=1)).astimezone(zone).hour != local.hour:
            break
        at -= timedelta(minutes=1)
    return at


def nearest_rank(values: list[int], percent: int) -> int | None:
    return sorted(values)[ceil(len(values) * percent / 100) - 1] if values else None


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    answered = sum(row["disposition"] == "answered" for row in rows)
    known = [row["answered_by"] for row in rows if row["answered_by"] is not None]
    attempts = [row["attempts"] for row in rows if row["attempts"] is not None]
    durations = [row["duration_seconds"] for row in rows if row["duration_seconds"] is not None]
    return {
        "count": len(rows),
        "answered": answered,
        "human": known.count("human"),
        "answer_rate": answered / len(rows) if rows else None,
        "human_rate": known.count("human") / len(known) if known else None,
        "attempts": sum(attempts) if attempts else None,
        "duration_sum": sum(durations) if durations else None,
        "duration_mean": sum(durations) / len(durations) if durations else None,
        "duration_p50": nearest_rank(durations, 50),
        "duration_p95": nearest_rank(durations, 95),
    }


def expected(rows: list[dict[str, Any]], group_by: list[str], zone: ZoneInfo) -> list[dict[str, Any]]:
    groups = defaultdict(list)
    for row in rows:
        key = [row[name] if name in row else bucket_start(row["ended_at"], name, zone) for name in group_by]
        groups[tuple((value is None, value) for value in key)].append(row)
    if not group_by:
        groups[()]
    return [
        dict(zip(group_by, [value for _, value in key], strict=True)) | figures(groups[key]) for key in sorted(groups)
    ]


@pytest.mark.parametrize("zone", ZONES)
def test_buckets_of_local_time_hold_what_the_oracle_says(filled, zone) -> None:
    rows = all_rows(filled)
    for bucket in ("hour", "day", "week", "month"):
        for group_by in ([bucket], ["batch", bucket]):
            found = summarise(filled, QUESTION, group_by, ZoneInfo(zone))
            wanted = expected(rows, group_by, ZoneInfo(zone))
            assert found == wanted
            assert [row[bucket].isoformat() for row in found] == [row[bucket].isoformat() for row in wanted]


def test_an_hour_that_occurs_twice_is_two_buckets(filled) -> None:
    night = [
        Condition("ended_at", Operator.GTE, [datetime(2026, 11, 1, 5, tzinfo=UTC)]),
        Condition("ended_at", Operator.LT, [datetime(2026, 11, 1, 7, tzinfo=UTC)]),
        Condition("integration", Operator.EQUAL, ["a", "b"]),
    ]
    question = Question(records=Records.OUTCOMES, conditions=night)
    found = summarise(filled, question, ["hour"], ZoneInfo("America/New_York"))
    assert [row["hour"].isoformat() for row in found] == ["2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00"]


@pytest.mark.parametrize("seed", range(6))
def test_any_fields_group_and_any_filter_narrows(filled, seed) -> None:
    random = Random(seed)
    conditions = random.choice(
        [
            [],
            [Condition("duration_seconds", Operator.LTE, [12])],
            [Condition("ended_at", Operator.GT, [datetime(2026, 3, 8, 7, tzinfo=UTC)])],
            [Condition("batch", Operator.EQUAL, ["nobody's"])],
        ]
    )
    question = Question(records=Records.OUTCOMES, conditions=conditions)
    group_by = random.sample([*FIELDS, "day"], random.randint(0, 3))
    rows = chosen(all_rows(filled), question)
    assert summarise(filled, question, group_by, UTC) == expected(rows, group_by, ZoneInfo("UTC"))


def test_without_groups_there_is_one_row_even_of_nothing(database) -> None:
    nobody = Question(records=Records.OUTCOMES, conditions=[Condition("batch", Operator.EQUAL, ["nobody's"])])
    for question in (QUESTION, nobody):
        rows = chosen(all_rows(database), question)
        assert summarise(database, question, [], UTC) == [figures(rows)]
    assert summarise(database, nobody, ["day"], UTC) == summarise(database, nobody, ["batch"], UTC) == []


def test_more_groups_than_anybody_reads_are_refused_in_words(filled, monkeypatch) -> None:
    monkeypatch.setattr(summary, "MAX_GROUPS", 3)
    with pytest.raises(TooBroad, match="since and until"):
        summarise(filled, QUESTION, ["hour"], UTC)


def test_facets_are_the_most_frequent_values_then_by_value_null_last(filled) -> None:
    add_odd_texts(filled)
    for records in Records:
        rows = all_rows(filled, records)
        fields = [column.name for column in records.columns if column.name not in JSON_FIELDS]
        found = facets(filled, Question(records=records), fields)
        for field in fields:
            counts = Counter(row[field] for row in rows).items()
            wanted = sorted(counts, key=lambda one: (-one[1], one[0] is None, one[0]))[:100]
            assert found[field] == wanted, field


def test_facets_count_what_the_filters_leave(filled) -> None:
    question = Question(records=Records.OUTCOMES, conditions=[Condition("integration", Operator.EQUAL, ["a"])])
    rows = chosen(all_rows(filled), question)
    assert dict(facets(filled, question, ["batch"])["batch"]) == Counter(row["batch"] for row in rows)


def test_among_values_as_frequent_null_is_the_last(database) -> None:
    at = datetime(2026, 1, 5, tzinfo=UTC)
    for number, batch in enumerate(["b", None, "a"]):
        body = f"result=Completed&call_id={number}".encode()
        save(database, [interpret(Delivery(id=uuid4(), integration="few", received_at=at, body=body, batch=batch))])
    few = Question(records=Records.OUTCOMES, conditions=[Condition("integration", Operator.EQUAL, ["few"])])
    assert facets(database, few, ["batch"]) == {"batch": [("a", 1), ("b", 1), (None, 1)]}


@pytest.mark.parametrize(
    ("durations", "p50", "p95"),
    [([5], 5, 5), ([1, 9], 1, 9), ([1, 2, 3], 2, 3), (range(1, 21), 10, 19), ([0, 0], 0, 0)],
)
def test_percentiles_are_by_nearest_rank(database, durations, p50, p95) -> None:
    at = datetime(2026, 1, 5, tzinfo=UTC)
    for duration in [*durations, ""]:
        body = f"result=Completed&duration={duration}&call_id={uuid4()}".encode()
        save(database, [interpret(Delivery(id=uuid4(), integration="few", received_at=at, body=body))])
    few = Question(records=Records.OUTCOMES, conditions=[Condition("integration", Operator.EQUAL, ["few"])])
    [row] = summarise(database, few, [], UTC)
    assert (row["duration_p50"], row["duration_p95"]) == (p50, p95)
