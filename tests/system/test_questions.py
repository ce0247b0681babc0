"""The query API in full, against an oracle over the records themselves, by HTTP and by command line."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from math import ceil
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.system.conftest import Sender, Service, dev_body

LISTS = ["outcomes", "deliveries"]
NESTED = {"events", "extra", "problems", "headers", "metadata"}
WORDS = {"product", "identity", "status", "callee_type", "disposition", "answered_by", "via", "verdict"}
NO_TEXTS = {"id", "outcome_id", "sha256"}
COMPARING = ["", "not", "gt", "gte", "lt", "lte"]
BUCKETS = ["hour", "day", "week", "month"]
ANSWERS = {"voice": "Completed", "answeringmachine": "Completed", "busy": "Failed", "noanswer": "Failed"}


@pytest.fixture(scope="session")
def campaign(service: Service) -> Sender:
    """A sender of many kinds of calls, around the nights on which New York's clocks change."""
    random, sender = Random(4), service.sender("campaign")
    for number in range(90):
        moment = datetime(2026, *random.choice([(3, 8), (11, 1), (1, 1)]), 5, 30, tzinfo=UTC)
        moment += timedelta(minutes=15 * random.randint(-20, 20))
        kind = random.choice(list(ANSWERS))
        body = dev_body(
            call_id=f"{random.choice(['a', 'A', 'é', 'a%', 'a_', '🙂', 'a,b'])}{number}",
            callee_type=kind,
            result=ANSWERS[kind],
            message_reference=random.choice([None, "r", "R"]),
            attempts=random.choice([None, 0, 1, 2, "many"]),
            duration=random.choice([None, 0, 7, 9, random.randint(1, 900)]),
            last_attempt_timestamp=moment.strftime("%a, %d %b %Y %H:%M:%S +0000"),
            **random.choice([{}, {"note": "x,y"}, {"note": {"deep": 1}}]),
        )
        sender.post(body, below=random.choice(["", "/batch/b", "/batch/B", "/batch/a%2Cb"])).assert_completed()
    sender.post(b"hello").assert_completed()
    return sender


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def comparable(field: str, value: Any) -> Any:
    return at(value) if field.endswith("_at") and value is not None else value


def holds(record: dict[str, Any], field: str, operator: str, values: list[Any]) -> bool:
    value = record[field]
    if operator == "null":
        return (not value if field in NESTED else value is None) in values
    if operator == "contains" and field in NESTED:
        return any(one in json.dumps(value, ensure_ascii=False, separators=(",", ":")) for one in values)
    if operator in ("prefix", "contains"):
        return value is not None and any(value.startswith(v) if operator == "prefix" else v in value for v in values)
    value, values = comparable(field, value), [comparable(field, one) for one in values]
    if operator == "not":
        return value not in values
    compare = {"": "__eq__", "gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}[operator]
    return value is not None and any(getattr(value, compare)(one) for one in values)


def asked_for(random: Random, field: str, records: list[dict[str, Any]]) -> list[tuple[str, list[Any]]]:
    """Operators that the field knows, each with one value or some."""
    values = [record[field] for record in records if record[field] is not None]
    asked: list[tuple[str, list[Any]]] = [("null", [random.random() < 0.5])]
    if field in NESTED:
        asked.append(("contains", [random.choice(["x,y", "deep", "not_a_number", "User-Agent", '"'])]))
    elif values:
        asked += [(operator, random.choices(values, k=random.randint(1, 2))) for operator in COMPARING]
        if isinstance(values[0], str) and not field.endswith("_at") and field not in NO_TEXTS:
            asked += [("prefix", [random.choice(values)[:2]]), ("contains", [random.choice(values)[1:3]])]
    return asked


def spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("path", LISTS)
def test_every_operator_on_every_field(service: Service, campaign: Sender, path: str) -> None:
    everything, random = service.records(path, integration=campaign.name), Random(6)
    for field in everything[0]:
        for operator, values in asked_for(random, field, everything):
            if field == "integration" and operator == "":
                continue
            whole = operator in ("prefix", "contains") or "," not in "".join(map(spelled, values))
            repeated = [spelled(value) for value in (values if whole else values * 2)]
            name = f"{field}__{operator}" if operator else field
            found = service.records(path, integration=campaign.name, **{name: repeated})
            assert found == [one for one in everything if holds(one, field, operator, values)], (name, repeated)


@pytest.mark.parametrize("path", LISTS)
def test_every_field_sorts_with_nulls_last_both_ways_and_ties_by_id(
    service: Service, campaign: Sender, path: str
) -> None:
    everything = sorted(service.records(path, integration=campaign.name), key=lambda record: record["id"])
    for field in everything[0].keys() - NESTED:
        known = [one for one in everything if one[field] is not None]
        unknown = [one for one in everything if one[field] is None]
        for descending in (False, True):
            known.sort(key=lambda one: comparable(field, one[field]), reverse=descending)
            sign = "-" if descending else ""
            assert service.records(path, integration=campaign.name, sort=f"{sign}{field}") == known + unknown
            known.sort(key=lambda one: one["id"])
    for field in NESTED & everything[0].keys():
        service.get(path, sort=field).assert_problem(422, "sort")


def test_pages_of_many_keys_hold_each_row_once_and_lead_back(service: Service, campaign: Sender) -> None:
    filters: dict[str, Any] = {"integration": campaign.name, "sort": "-batch,attempts,-duration_seconds"}
    everything = service.records("outcomes", **filters)
    pages = list(service.pages("outcomes", limit=7, count="exact", **filters))
    assert [record for page in pages for record in page["data"]] == everything
    assert {page["count"]["value"] for page in pages} == {len(everything)}
    back = list(service.pages("/api/" + pages[-1]["prev"].partition("/api/")[2], "prev"))
    assert [page["data"] for page in back] == [page["data"] for page in pages[-2::-1]]


def test_fields_are_exactly_those_asked_for_in_their_order(service: Service, campaign: Sender) -> None:
    for fields in ("status", "problems,id,batch", "phone_number,phone_number_raw"):
        [page] = service.pages("outcomes", integration=campaign.name, fields=fields, limit=1000)
        assert {tuple(record) for record in page["data"]} == {tuple(fields.split(","))}
    service.get("outcomes", fields="status,nonsense").assert_problem(422, "fields")


def test_a_count_has_its_kind(service: Service, campaign: Sender) -> None:
    for filters in ({}, {"status": "failed"}, {"status": "rejected"}):
        wanted = len(service.records("outcomes", integration=campaign.name, **filters))
        asked = {"integration": campaign.name, "limit": 1, **filters}
        assert service.get("outcomes", count="exact", **asked).json()["count"] == {"value": wanted, "kind": "exact"}
        estimate = service.get("outcomes", count="estimated", **asked).json()["count"]
        assert estimate["value"] == wanted if estimate["kind"] == "exact" else estimate["value"] > 0


def test_read_may_ask_nothing_that_gives_a_number_away(service: Service, campaign: Sender, read_token: str) -> None:
    for path, refused in {
        "outcomes": [
            {"phone_number__prefix": "+1617"}, {"phone_number_raw__contains": "6"}, {"sort": "-phone_number"},
            {"problems__contains": "617"}, {"extra__contains": "617"}, {"phone_number__null": "true"},
        ],
        "deliveries": [{"query__contains": "617"}, {"problems__contains": "617"}, {"sort": "query"}],
        "facets": [{"fields": "status,phone_number"}, {"fields": "status", "phone_number": "+16175551234"}],
        "summary": [{"phone_number__gt": "+1"}],
    }.items():  # fmt: skip
        for filters in refused:
            service.get(path, read_token, **filters).assert_problem(403)
            assert service.get(path, **filters).status == 200
    assert service.get("outcomes", read_token, extra__null="true", fields="phone_number").status == 200


# --- totals


def test_facets_count_values_under_the_same_filters(service: Service, campaign: Sender) -> None:
    fields = ["status", "answered_by", "batch", "attempts", "possible_duplicate", "ended_at"]
    for filters in ({}, {"status": "failed"}):
        records = service.records("outcomes", integration=campaign.name, **filters)
        data = service.get("facets", integration=campaign.name, fields=",".join(fields), **filters).json()["data"]
        assert list(data) == fields
        for field in fields:
            counts = Counter(record[field] for record in records)
            wanted = sorted(counts, key=lambda one: (-counts[one], one is None, comparable(field, one)))
            assert data[field] == [{"value": value, "count": counts[value]} for value in wanted]


def test_a_facet_must_be_named_and_be_of_a_single_value(service: Service) -> None:
    service.get("facets").assert_problem(422, "fields")
    for field in ("nonsense", "events", "extra", "", "status,problems"):
        service.get("facets", fields=field).assert_problem(422, "fields")
    service.get("facets", fields="status", sort="id", cursor="x").assert_problem(422, "sort", "cursor")


def bucket(moment: datetime, name: str, zone: ZoneInfo) -> str:
    start = moment.astimezone(zone).replace(minute=0, second=0, microsecond=0)
    if name != "hour":
        start = start.replace(hour=0, fold=0)
    if name == "week":
        start -= timedelta(days=start.weekday())
    return (start.replace(day=1) if name == "month" else start).isoformat()


def figures(records: list[dict[str, Any]]) -> dict[str, Any]:
    def known(field: str) -> list[Any]:
        return [record[field] for record in records if record[field] is not None]

    answered = sum(record["disposition"] == "answered" for record in records)
    by, seconds = known("answered_by"), sorted(known("duration_seconds"))
    return {
        "count": len(records),
        "answered": answered,
        "human": by.count("human"),
        "answer_rate": pytest.approx(answered / len(records)),
        "human_rate": pytest.approx(by.count("human") / len(by)) if by else None,
        "attempts": sum(known("attempts")) if known("attempts") else None,
        "duration_sum": sum(seconds) if seconds else None,
        "duration_mean": pytest.approx(sum(seconds) / len(seconds)) if seconds else None,
        "duration_p50": seconds[ceil(len(seconds) * 0.50) - 1] if seconds else None,
        "duration_p95": seconds[ceil(len(seconds) * 95 / 100) - 1] if seconds else None,
    }


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "UTC"])
@pytest.mark.parametrize("name", BUCKETS)
def test_a_summary_by_local_time_and_a_field(service: Service, campaign: Sender, zone: str, name: str) -> None:
    groups = defaultdict(list)
    for record in service.records("outcomes", integration=campaign.name):
        groups[bucket(at(record["ended_at"]), name, ZoneInfo(zone)), record["batch"]].append(record)
    wanted = sorted(groups, key=lambda key: (at(key[0]), key[1] is None, key[1]))
    data = service.get("summary", integration=campaign.name, group_by=f"{name},batch", tz=zone).json()["data"]
    assert data == [{name: start, "batch": batch, **figures(groups[start, batch])} for start, batch in wanted]
    assert list(data[0]) == [name, "batch", *figures(groups[wanted[0]])]


def test_a_summary_without_groups_is_one_row(service: Service, campaign: Sender) -> None:
    records = service.records("outcomes", integration=campaign.name)
    assert service.get("summary", integration=campaign.name).json()["data"] == [figures(records)]
    [nothing] = service.get("summary", integration="nobody").json()["data"]
    assert (nothing["count"], nothing["answer_rate"], nothing["duration_p50"]) == (0, None, None)
    assert service.get("summary", integration="nobody", group_by="day").json()["data"] == []


def test_an_impossible_summary_gets_an_explanation(service: Service) -> None:
    for group_by in ("nonsense", "", "attempts", "day,hour", "phone_number"):
        service.get("summary", group_by=group_by).assert_problem(422, "group_by")
    service.get("summary", tz="Mars/Olympus", limit=5).assert_problem(422, "tz", "limit")


# --- the command line


def test_the_command_line_gives_the_same_answers(service: Service, campaign: Sender) -> None:
    mine = f"integration={campaign.name}"
    for spelling in (["status=failed", "attempts__gt=0"], ["--status", "failed", "--attempts__gt=0"]):
        found = service.json("outcomes", mine, *spelling, "limit=1000", "--reveal")
        assert found == campaign.outcomes(status="failed", attempts__gt=0)
    rows = service.json("summary", mine, "--group-by", "day,status", "--tz=America/New_York")
    assert (
        rows
        == service.get("summary", integration=campaign.name, group_by="day,status", tz="America/New_York").json()[
            "data"
        ]
    )
    for form in ([], ["--json"]):
        shown = service.run("outcomes", mine, "limit=2", "count=exact", *form)
        assert "there are more" in shown.stderr
        assert f"({len(campaign.outcomes())} in all, exact)" in shown.stderr
    assert service.ok("summary", mine, "group_by=status").startswith("status")
    service.assert_one_line("summary", "phone_number=1", says="--reveal")
    service.assert_one_line("outcomes", "--nobody", "1", says="nobody: unknown")
    service.assert_one_line("outcomes", "--status", says="--status needs a value")
