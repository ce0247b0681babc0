"""Filters and pages against a brute-force oracle, on full stores of both engines."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest
from sqlalchemy import select

from app.errors import NotFound
from app.interpret import interpret
from app.model import Delivery
from app.store import questions
from app.store.questions import Edge, Question
from app.store.readings import save
from app.store.schema import outcomes

FIELDS = [
    "product", "identity", "status", "status_raw", "callee_type", "disposition", "answered_by", "attempts",
    "duration_seconds", "phone_number", "call_id", "batch", "queued_at", "possible_duplicate", "deliveries", "id",
]  # fmt: skip


@pytest.fixture
def fullness() -> str:
    return "full"


@pytest.fixture
def rows(database) -> list[dict]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(select(outcomes)).mappings()]


def walk(database, question: Question, *, forward: bool = True) -> list:
    ids, edge = [], None
    while True:
        asked = Question(
            equal=question.equal, since=question.since, until=question.until, newest_first=question.newest_first,
            limit=question.limit, **({"after" if forward else "before": edge} if edge else {}),
        )  # fmt: skip
        page = questions.list_outcomes(database, asked)
        found = [row["id"] for row in page.rows]
        ids = ids + found if forward else found + ids
        if not (page.more_after if forward else page.more_before):
            return ids
        end = page.rows[-1 if forward else 0]
        edge = Edge(end["ended_at"], end["id"])


def expected(rows: list[dict], question: Question) -> list:
    kept = [
        row
        for row in rows
        if all(row[name] in values for name, values in question.equal.items())
        and (question.since is None or row["ended_at"] >= question.since)
        and (question.until is None or row["ended_at"] < question.until)
    ]
    kept.sort(key=lambda row: row["id"])
    kept.sort(key=lambda row: row["ended_at"], reverse=question.newest_first)
    return [row["id"] for row in kept]


@pytest.mark.parametrize("seed", range(25))
def test_a_page_walk_gives_each_row_that_the_oracle_gives_once_and_in_order(database, rows, seed) -> None:
    random = Random(seed)
    moments = sorted(row["ended_at"] for row in rows)
    names = random.sample(FIELDS, random.randint(0, 2))
    values = {name: sorted({row[name] for row in rows} - {None}, key=str) for name in names}
    question = Question(
        equal={
            name: random.sample(some, min(len(some), random.randint(1, 3))) for name, some in values.items() if some
        },
        since=random.choice([None, moments[len(moments) // 4]]),
        until=random.choice([None, moments[len(moments) // 2], moments[-1]]),
        newest_first=random.random() < 0.5,
        limit=random.choice([1, 7, 100, 1000]) if names else random.choice([100, 333, 1000]),
    )
    wanted = expected(rows, question)
    assert walk(database, question) == wanted
    assert questions.count_outcomes(database, question) == len(wanted)


@pytest.mark.parametrize("newest_first", [True, False])
def test_walking_back_gives_the_same_rows_in_the_same_order(database, rows, newest_first) -> None:
    question = Question(newest_first=newest_first, limit=97)
    wanted = expected(rows, question)
    last = next(row for row in rows if row["id"] == wanted[-1])
    back = questions.list_outcomes(
        database, Question(newest_first=newest_first, limit=1000, before=Edge(last["ended_at"], last["id"]))
    )
    assert [row["id"] for row in back.rows] == wanted[-1001:-1]
    assert back.more_after


def test_rows_with_the_same_moment_are_neither_repeated_nor_missed(database, rows) -> None:
    moments = [row["ended_at"] for row in rows]
    assert len(set(moments)) < len(moments), "the campaign should have calls that ended together"
    ids = walk(database, Question(limit=1000))
    assert len(ids) == len(set(ids)) == len(rows)


def test_rows_written_meanwhile_disturb_no_walk(database, rows) -> None:
    newest = max(row["ended_at"] for row in rows)
    page = questions.list_outcomes(database, Question(limit=500))
    late = Delivery(
        id=page.rows[0]["id"], integration="ours", received_at=newest + timedelta(days=1), body=b"result=Completed"
    )
    save(database, [interpret(late)])
    end = page.rows[-1]
    rest = questions.list_outcomes(database, Question(limit=1000, after=Edge(end["ended_at"], end["id"])))
    walked = [row["id"] for row in [*page.rows, *rest.rows]]
    assert walked == expected(rows, Question())[: len(walked)]


def test_what_is_not_there_is_not_found(database, rows) -> None:
    with pytest.raises(NotFound, match="there is no outcome"):
        questions.get_outcome_record(database, __import__("uuid").uuid4())
