"""Calls around changes of the clock, and what a summary of any calls should say, worked out the slow way."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from math import ceil
from random import Random
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from app.interpret import interpret
from app.model import Delivery
from app.store.database import Database
from app.store.readings import save

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


def add_calls(database: Database) -> None:
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
