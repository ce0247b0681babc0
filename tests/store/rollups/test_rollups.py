"""Roll-ups say what the outcomes say: fresh, half made, behind, and with others writing and refreshing meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select

from app.interpret import interpret
from app.model import Delivery
from app.store import changes
from app.store.answers import counts, facets, pages, summary
from app.store.answers.counts import Count, Kind
from app.store.answers.summary import FIELDS, summarise
from app.store.asking.quarters import Span
from app.store.asking.questions import Condition, Edge, Operator, Order, Question, Records
from app.store.database import Database
from app.store.readings import save
from app.store.rollups import narrowing, rolled, rolling
from app.store.schema import rollup_dirty, rollup_state, rollups
from tests.store.figures import MOMENTS, ZONES, add_calls, expected, figures
from tests.store.oracle import add_odd_texts, all_rows, chosen, ids

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)
AT_ONCE = timedelta(0)
QUESTION = Question(records=Records.OUTCOMES)
WHOLE = [zone for zone in ZONES if zone != "America/St_Johns"]  # changed its clock at a minute past until 2011
WORDS = {
    "integration": ["a", "b", "odd"], "product": ["dev", "fuse"], "batch": ["x", "é", "a_", "Z"],
    "status": ["completed", "unknown", "failed"], "disposition": ["answered", "busy"],
    "callee_type": ["voice", "unknown"], "answered_by": ["human", "machine"],
}  # fmt: skip


def call(number: int, at: datetime, attempts: int = 1, batch: str = "x", **fields: object):
    """A call that ended then; with more attempts it corrects what was told of it."""
    body = f"result=Completed&call_id={number}&attempts={attempts}&last_attempt_timestamp={int(at.timestamp())}"
    body += "".join(f"&{name}={value}" for name, value in fields.items())
    return interpret(Delivery(id=uuid4(), integration="a", received_at=NOW, body=body.encode(), batch=batch))


def refresh(database: Database, steps: int = 100_000) -> None:
    for _ in range(steps):
        if not rolling.refresh(database, datetime.now(UTC), AT_ONCE):
            return


def rolled_only(monkeypatch) -> None:
    """From now on looking at the outcomes for all of a question fails."""
    monkeypatch.setattr(summary, "_live", None)
    monkeypatch.setattr(facets, "_facets", None)
    monkeypatch.setattr(counts, "_estimated", None)


@pytest.fixture
def filled(database) -> Database:
    add_odd_texts(database)
    add_calls(database)
    return database


def conditions(random: Random) -> list[Condition]:
    """Some that roll-ups can answer."""
    found = []
    for field in random.sample(FIELDS, random.randint(0, 2)):
        operator = random.choice([one for one in Operator if one is not Operator.NULL])
        found.append(Condition(field, operator, random.sample(WORDS[field], random.choice([1, 2]))))
    if random.random() < 0.3:
        found.append(Condition(random.choice(["batch", "answered_by"]), Operator.NULL, [random.random() < 0.5]))
    for operator in (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE):
        if random.random() < 0.25:
            moment = datetime.fromisoformat(random.choice(MOMENTS)).replace(tzinfo=UTC)
            moment += random.choice([AT_ONCE, timedelta(seconds=1), timedelta(minutes=7), timedelta(days=30)])
            found.append(Condition("ended_at", operator, [moment]))
    return found


def assert_right(database: Database, random: Random, zones: Sequence[str] = ZONES) -> None:
    """One question of each sort against the outcomes themselves."""
    question = Question(records=Records.OUTCOMES, conditions=conditions(random))
    zone = ZoneInfo(random.choice(zones))
    rows = chosen(all_rows(database), question)
    group_by = random.sample(FIELDS, random.choice([0, 0, 1, 2]))
    group_by += random.choice([[], ["hour"], ["day"], ["week"], ["month"]])
    assert summarise(database, question, group_by, zone) == expected(rows, group_by, zone)
    assert counts.count(database, question) == counts.estimate(database, question) == Count(len(rows), Kind.EXACT)
    fields = random.sample(FIELDS, 3)
    for field, found in facets.facets(database, question, fields).items():
        assert dict(found) == Counter(row[field] for row in rows)
        assert found == sorted(found, key=lambda one: (-one[1], one[0] is None, one[0]))


@pytest.mark.parametrize("refreshed", [1, 2])
def test_what_is_rolled_up_is_right_and_is_enough(filled, refreshed, monkeypatch) -> None:
    for _ in range(refreshed):
        refresh(filled)
    rolled_only(monkeypatch)
    random = Random(refreshed)
    for _ in range(40):
        assert_right(filled, random, WHOLE)


@pytest.mark.parametrize("zone", WHOLE)
def test_every_bucket_of_every_zone_is_right(filled, zone, monkeypatch) -> None:
    refresh(filled)
    rolled_only(monkeypatch)
    rows = all_rows(filled)
    for group_by in (["hour"], ["day"], ["week"], ["month"], ["batch", "day"]):
        assert summarise(filled, QUESTION, group_by, ZoneInfo(zone)) == expected(rows, group_by, ZoneInfo(zone))


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_what_is_half_made_is_right(filled, steps, monkeypatch) -> None:
    monkeypatch.setattr(rolling, "STEP", 7)
    refresh(filled, steps)
    random = Random(steps)
    for _ in range(10):
        assert_right(filled, random)


def test_writing_refreshing_and_asking_in_any_order_is_right(database, monkeypatch) -> None:
    monkeypatch.setattr(rolling, "STEP", 3)
    random = Random(2)
    moments = [NOW + timedelta(minutes=random.randint(-3000, 3000)) for _ in range(30)]
    for turn in range(40):
        match random.choice(["write", "write", "refresh", "finish"]):
            case "write":
                told = [
                    call(random.randint(1, 60), random.choice(moments), turn, duration=random.randint(0, 2000))
                    for _ in range(20)
                ]
                save(database, told)
            case "refresh":
                refresh(database, random.randint(1, 4))
            case "finish":
                refresh(database)
        assert_right(database, random)


def test_a_call_that_moves_leaves_the_quarter_that_it_was_in(database) -> None:
    save(database, [call(0, NOW - timedelta(days=1)), call(1, NOW, 1)])
    refresh(database)
    save(database, [call(1, NOW + timedelta(days=3), 2)])
    since = Question(records=Records.OUTCOMES, conditions=[Condition("integration", Operator.EQUAL, ["a"])])
    for _ in range(2):
        days = summarise(database, since, ["day"], UTC)
        assert [(row["day"].day, row["count"]) for row in days] == [(7, 1), (11, 1)]
        refresh(database)


def test_a_refresh_with_nothing_new_writes_nothing(filled) -> None:
    refresh(filled)
    with filled.reading() as connection:
        before = connection.execute(select(rollup_state)).one()
    refresh(filled)
    with filled.reading() as connection:
        assert connection.execute(select(rollup_state)).one() == before
        assert connection.execute(select(func.count()).select_from(rollup_dirty)).scalar_one() == 0
        spans = connection.execute(select(rollups.c.span, func.sum(rollups.c.count)).group_by(rollups.c.span)).all()
    assert {(span, int(count)) for span, count in spans} == {(span, len(all_rows(filled))) for span in Span}


def test_what_is_still_changing_is_left_until_it_is_quiet(database) -> None:
    refresh(database)
    save(database, [call(1, NOW)])
    now = datetime.now(UTC)
    while rolling.refresh(database, now):
        pass
    with database.reading() as connection:
        there = select(func.count()).where(rollups.c.quarter == int(NOW.timestamp()) // 900)
        assert connection.execute(there).scalar_one() == 0
        while rolling.refresh(database, now + rolling.QUIET):
            pass
    with database.reading() as connection:
        assert connection.execute(there).scalar_one() == 1


def test_a_change_that_does_not_say_where_starts_all_over(filled) -> None:
    refresh(filled)
    with filled.writing() as connection:
        connection.exec_driver_sql("UPDATE changes SET quarters = NULL")
        connection.exec_driver_sql("UPDATE rollup_state SET seen_end = 1")
        connection.exec_driver_sql("UPDATE rollups SET count = 0")
    random = Random(1)
    assert_right(filled, random)
    refresh(filled)
    for _ in range(5):
        assert_right(filled, random)


def test_what_many_durations_there_are_is_exact(database) -> None:
    random = Random(4)
    save(database, [call(n, NOW, duration=random.choice([7, 7, 7, n, 5000])) for n in range(1, 900)])
    rows = [row for row in all_rows(database) if row["integration"] == "a"]
    ours = Question(records=Records.OUTCOMES, conditions=[Condition("integration", Operator.EQUAL, ["a"])])
    refresh(database)
    assert summarise(database, ours, [], UTC) == [figures(rows)]


def test_old_changes_are_kept_until_they_are_rolled_up(database) -> None:
    refresh(database)
    for number in range(3):
        save(database, [call(number, NOW + timedelta(hours=number))])
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert changes.prune(database, tomorrow) <= 1000  # those of the campaign, which are held
    question = Question(records=Records.OUTCOMES, conditions=[Condition("integration", Operator.EQUAL, ["a"])])
    refresh(database)
    assert counts.count(database, question).value == len(chosen(all_rows(database), question))


# --- pages


@pytest.mark.parametrize("made", ["all", "some"])
def test_pages_of_words_are_the_same_whatever_is_rolled_up(filled, made, monkeypatch) -> None:
    monkeypatch.setattr(narrowing, "_FEW_ROWS", 1)
    monkeypatch.setattr(narrowing, "_DENSE", 2)
    monkeypatch.setattr(pages, "_quickly", lambda *asked: None)
    monkeypatch.setattr(rolling, "STEP", 9)
    refresh(filled, 100_000 if made == "all" else 4)
    random = Random(6)
    for _ in range(12):
        order = [Order("ended_at", descending=random.random() < 0.5), Order("call_id")]
        asked = Question(
            records=Records.OUTCOMES, conditions=conditions(random), order=order, limit=random.randint(9, 90)
        )
        assert _walked(filled, asked) == ids(chosen(all_rows(filled), asked))


def _walked(database: Database, question: Question) -> list[object]:
    """All pages forwards; the page before each is the one that came before."""
    page = pages.page(database, question)
    found = ids(page.rows)
    while page.more_after:
        before, page = page, pages.page(database, replace(question, edge=Edge(_edge(question, page.rows[-1]))))
        back = pages.page(database, replace(question, edge=Edge(_edge(question, page.rows[0]), backwards=True)))
        assert ids(back.rows) == ids(before.rows)
        found += ids(page.rows)
    return found


def _edge(question: Question, row: dict[str, object]) -> list[object]:
    return [row[order.field] for order in question.whole_order]


def test_a_page_of_what_is_rare_looks_at_few_rows(database, monkeypatch) -> None:
    monkeypatch.setattr(narrowing, "_FEW_ROWS", 10)
    monkeypatch.setattr(narrowing, "_DENSE", 20)
    monkeypatch.setattr(pages, "_quickly", lambda *asked: None)
    save(database, [call(n, NOW + timedelta(minutes=n), batch="rare" if n == 700 else "often") for n in range(900)])
    refresh(database)
    rare = Question(
        records=Records.OUTCOMES,
        conditions=[Condition("batch", Operator.EQUAL, ["rare"])],
        order=[Order("ended_at", descending=True)],
    )
    with database.reading(at_one_moment=True) as connection:
        [(since, until)] = narrowing.places(connection, rare, down=True)
    assert since <= NOW + timedelta(minutes=700) < until
    assert until - since <= timedelta(hours=1)
    assert len(pages.page(database, rare).rows) == 1


# --- several at once


def test_of_two_that_refresh_at_once_one_gives_way(filled, monkeypatch) -> None:
    refresh(filled, 2)
    taken = rolling._write

    def overtaken(database, *made):
        monkeypatch.setattr(rolling, "_write", taken)
        save(filled, [call(1, NOW, 2, duration=9)])
        refresh(filled)
        taken(database, *made)

    save(filled, [call(1, NOW, 1, duration=5)])
    monkeypatch.setattr(rolling, "_write", overtaken)
    refresh(filled)
    random = Random(3)
    for _ in range(10):
        assert_right(filled, random)


def test_a_question_sees_one_moment(database, monkeypatch) -> None:
    save(database, [call(1, NOW), call(2, NOW + timedelta(days=2)), call(3, NOW + timedelta(days=4))])
    refresh(database)
    save(database, [call(2, NOW + timedelta(days=2), 2)])
    question = Question(records=Records.OUTCOMES, conditions=[Condition("integration", Operator.EQUAL, ["a"])])
    live = rolled._live

    def overtaken(*asked):
        """Between the roll-up of the one day and the outcomes of the other, a call moves from this to that."""
        save(database, [call(2, NOW, 3)])
        return live(*asked)

    monkeypatch.setattr(rolled, "_live", overtaken)
    assert counts.count(database, question).value == 3


def test_a_transaction_held_open_over_a_refresh_is_counted_once_it_commits(crowded) -> None:
    save(crowded, [call(number, NOW) for number in range(5)])
    refresh(crowded)
    with crowded.writing() as held:
        save(SimpleNamespace(writing=lambda: nullcontext(held)), [call(9, NOW, duration=4)])
        save(crowded, [call(10, NOW)])
        refresh(crowded)
        assert counts.count(crowded, QUESTION).value == 6
    assert counts.count(crowded, QUESTION).value == 7
    refresh(crowded)
    assert counts.count(crowded, QUESTION).value == 7
    assert summarise(crowded, QUESTION, [], UTC) == [figures(all_rows(crowded))]


def test_roll_ups_of_a_server_whose_transactions_were_numbered_otherwise_are_not_believed(crowded) -> None:
    save(crowded, [call(1, NOW)])
    refresh(crowded)
    with crowded.writing() as connection:
        connection.exec_driver_sql("UPDATE rollup_state SET seen_end = 1000000000000")
    save(crowded, [call(2, NOW)])
    assert counts.count(crowded, QUESTION).value == 2
    refresh(crowded)
    assert counts.count(crowded, QUESTION).value == 2
