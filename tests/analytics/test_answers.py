"""Summaries and facets of the copy against a brute-force oracle, over days on which clocks change."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import product
from random import Random
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from app.analytics import answers, counts
from app.analytics.answers import GROUPS
from app.errors import TooBroad
from app.interpret import interpret
from app.model import Delivery
from app.store import pagination
from app.store.query.question import Condition, Hours, Operator, Order, Question, Records
from app.store.readings import save
from tests.analytics.conftest import on_a_full_store
from tests.store.figures import ZONES, add_calls, expected, figures
from tests.store.oracle import JSON_FIELDS, add_odd_texts, all_rows, chosen

QUESTION = Question(records=Records.OUTCOMES)


@pytest.fixture
def filled(database, router):
    add_calls(database)
    return router


@on_a_full_store
def test_buckets_of_local_time_hold_what_the_oracle_says(filled, database, engine_name, fullness) -> None:
    rows, random = all_rows(database), Random(f"{engine_name} {fullness}")
    for zone, bucket in product(ZONES, ("hour", "day", "week", "month")):
        group_by = random.choice([[bucket], ["batch", bucket]])
        found = filled.summarise(QUESTION, group_by, ZoneInfo(zone))
        wanted = expected(rows, group_by, ZoneInfo(zone))
        assert found == wanted, zone
        assert [row[bucket].isoformat() for row in found] == [row[bucket].isoformat() for row in wanted], zone


@on_a_full_store
def test_hours_of_the_week_are_local_on_copy_and_store(filled, database, engine_name, fullness) -> None:
    random, rows = Random(f"{engine_name} {fullness}"), all_rows(database)
    some_years = [
        Condition("ended_at", Operator.GTE, [datetime(2010, 3, 14, tzinfo=UTC)]),
        Condition("ended_at", Operator.LT, [datetime(2026, 11, 1, 6, tzinfo=UTC)]),
    ]
    for zone in ZONES:
        conditions = random.choice([[], some_years])
        hours = Hours("ended_at", frozenset(random.sample(range(168), 50)), ZoneInfo(zone))
        question = Question(
            records=Records.OUTCOMES, conditions=conditions, hours=hours, order=[Order("ended_at")], limit=1000
        )
        wanted = [row["id"] for row in chosen(rows, question)]
        assert 0 < len(wanted) < len(rows)
        assert [row["id"] for row in filled.page(question, ["id"]).rows] == wanted[:1000], zone
        assert filled.summarise(question, [], UTC)[0]["count"] == len(wanted), zone
        assert [row["id"] for row in pagination.page(database, question, ["id"]).rows] == wanted[:1000], zone


def test_an_hour_that_occurs_twice_is_two_buckets(filled, database) -> None:
    night = [
        Condition("ended_at", Operator.GTE, [datetime(2026, 11, 1, 5, tzinfo=UTC)]),
        Condition("ended_at", Operator.LT, [datetime(2026, 11, 1, 7, tzinfo=UTC)]),
        Condition("integration", Operator.EQUAL, ["a", "b"]),
    ]
    question = Question(records=Records.OUTCOMES, conditions=night)
    found = filled.summarise(question, ["hour"], ZoneInfo("America/New_York"))
    assert [row["hour"].isoformat() for row in found] == ["2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00"]


def test_a_clock_changed_less_than_a_minute_before_one_is_looked_at(filled, database) -> None:
    since = Condition("ended_at", Operator.GTE, [datetime(2026, 3, 5, 7, 0, 30, tzinfo=UTC)])  # three days later
    question = Question(records=Records.OUTCOMES, conditions=[since])
    zone = ZoneInfo("America/New_York")
    assert filled.summarise(question, ["day"], zone) == expected(chosen(all_rows(database), question), ["day"], zone)


@pytest.mark.parametrize("seed", range(6))
def test_any_fields_group_and_any_filter_narrows(filled, database, seed) -> None:
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
    group_by = random.sample([*GROUPS, "day"], random.randint(0, 3))
    rows = chosen(all_rows(database), question)
    assert filled.summarise(question, group_by, UTC) == expected(rows, group_by, ZoneInfo("UTC"))


def test_without_groups_there_is_one_row_even_of_nothing(database, router) -> None:
    nobody = Question(records=Records.OUTCOMES, conditions=[Condition("batch", Operator.EQUAL, ["nobody's"])])
    for question in (QUESTION, nobody):
        rows = chosen(all_rows(database), question)
        assert router.summarise(question, [], UTC) == [figures(rows)]
    assert router.summarise(nobody, ["day"], UTC) == router.summarise(nobody, ["batch"], UTC) == []


@on_a_full_store
def test_a_tally_counts_each_grouping_as_a_summary_does(filled, database, engine_name, fullness) -> None:
    rows, random = all_rows(database), Random(f"{engine_name} {fullness}")
    for zone in ZONES:
        place, bucket = ZoneInfo(zone), random.choice(["hour", "day", "week", "month"])
        groupings = [[], [bucket, "disposition"], ["batch"], ["answered_by", "product"], ["weekday", "clock_hour"]]
        tallied = filled.group_counts(QUESTION, groupings, place)
        for group_by, found in zip(groupings[:-1], tallied, strict=False):
            counted = [*group_by, "count", "answered", "human", *([] if group_by else ["attempts", "duration_sum"])]
            wanted = [{name: row[name] for name in counted} for row in expected(rows, group_by, place)]
            told = [{name: row[name] for name in counted} for row in found]
            assert sorted(told, key=str) == sorted(wanted, key=str), zone
        local = [row["ended_at"].astimezone(place) for row in rows]
        by_clock = {(row["weekday"], row["clock_hour"]): row["count"] for row in tallied[-1]}
        assert by_clock == Counter((at.isoweekday(), at.hour) for at in local), zone
        assert tallied[0][0]["known"] == sum(row["answered_by"] is not None for row in rows)


def test_nothing_is_tallied_as_nothing(filled) -> None:
    nobody = Question(records=Records.OUTCOMES, conditions=[Condition("batch", Operator.EQUAL, ["nobody's"])])
    assert filled.group_counts(nobody, [[], ["day"], ["batch"]], UTC) == [[], [], []]


def test_too_many_counted_groups_are_refused_with_a_message(filled, monkeypatch) -> None:
    monkeypatch.setattr(counts, "MAX_GROUPS", 3)
    with pytest.raises(TooBroad, match="since and until"):
        filled.group_counts(QUESTION, [["hour"]], UTC)


def test_too_many_groups_are_refused_with_a_message(filled, monkeypatch) -> None:
    monkeypatch.setattr(answers, "MAX_GROUPS", 3)
    with pytest.raises(TooBroad, match="since and until"):
        filled.summarise(QUESTION, ["hour"], UTC)


def test_facets_are_the_most_frequent_values_then_by_value_null_last(filled, database) -> None:
    add_odd_texts(database)
    rows = all_rows(database)
    fields = [column.name for column in Records.OUTCOMES.columns if column.name not in JSON_FIELDS]
    found = filled.facets(QUESTION, fields)
    for field in fields:
        counts = Counter(row[field] for row in rows).items()
        wanted = sorted(counts, key=lambda one: (-one[1], one[0] is None, one[0]))[:100]
        assert found[field] == wanted, field


def test_facets_count_what_the_filters_leave(filled, database) -> None:
    question = Question(records=Records.OUTCOMES, conditions=[Condition("integration", Operator.EQUAL, ["a"])])
    rows = chosen(all_rows(database), question)
    assert dict(filled.facets(question, ["batch"])["batch"]) == Counter(row["batch"] for row in rows)


def test_among_values_as_frequent_null_is_the_last(database, router) -> None:
    at = datetime(2026, 1, 5, tzinfo=UTC)
    for number, batch in enumerate(["b", None, "a"]):
        body = f"result=Completed&call_id={number}".encode()
        save(database, [interpret(Delivery(id=uuid4(), integration="few", received_at=at, body=body, batch=batch))])
    few = Question(records=Records.OUTCOMES, conditions=[Condition("integration", Operator.EQUAL, ["few"])])
    assert router.facets(few, ["batch"]) == {"batch": [("a", 1), ("b", 1), (None, 1)]}


@pytest.mark.parametrize(
    ("durations", "p50", "p95"),
    [([5], 5, 5), ([1, 9], 1, 9), ([1, 2, 3], 2, 3), (range(1, 21), 10, 19), (range(1, 41), 20, 38), ([0, 0], 0, 0)],
)
def test_percentiles_are_by_nearest_rank(database, router, durations, p50, p95) -> None:
    at = datetime(2026, 1, 5, tzinfo=UTC)
    for duration in [*durations, ""]:
        body = f"result=Completed&duration={duration}&call_id={uuid4()}".encode()
        save(database, [interpret(Delivery(id=uuid4(), integration="few", received_at=at, body=body))])
    few = Question(records=Records.OUTCOMES, conditions=[Condition("integration", Operator.EQUAL, ["few"])])
    [row] = router.summarise(few, [], UTC)
    assert (row["duration_p50"], row["duration_p95"]) == (p50, p95)
