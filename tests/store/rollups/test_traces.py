"""Pages by any value are what they are without traces: fresh, half made, behind, merged, and with others writing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from uuid import uuid4

import pytest
from sqlalchemy import delete, select, update

from app.errors import StoreUnavailable, TooSlow
from app.interpret import interpret
from app.model import Delivery, Reading
from app.store import changes
from app.store.answers import counts, pages
from app.store.asking.quarters import Span, quarter_of
from app.store.asking.questions import Condition, Edge, Operator, Order, Question, Records
from app.store.database import Database
from app.store.deadline import Deadline
from app.store.readings import save
from app.store.reprocess import reprocess_one
from app.store.rollups import following, rolling, stretches, traces, tracing
from app.store.schema import outcomes, rollup_dirty
from app.store.schema import traces as kept
from tests.store.figures import add_calls
from tests.store.oracle import add_odd_texts, all_rows, chosen, ids

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)
AT_ONCE = timedelta(0)
ORDERED = (Operator.EQUAL, Operator.GT, Operator.GTE, Operator.LT, Operator.LTE, Operator.NOT)


@pytest.fixture
def fullness() -> str:
    return "empty"


@pytest.fixture
def filled(database) -> Database:
    add_odd_texts(database, 40)
    add_calls(database)
    save(database, [call(f"more-than-a-key-tells-of-{number}", NOW + timedelta(hours=number)) for number in range(5)])
    return database


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    """Bounds that even few outcomes pass."""
    monkeypatch.setattr(traces, "MANY", 3)
    monkeypatch.setattr(tracing, "MANY", 3)
    monkeypatch.setattr(traces, "MANY_QUARTERS", 2)
    monkeypatch.setattr(traces, "MOST_PLACES", 4)
    monkeypatch.setattr(traces, "SHARE", 4)
    monkeypatch.setattr(traces, "LENGTH", 13)
    monkeypatch.setattr(tracing, "LENGTH", 13)
    monkeypatch.setattr(tracing, "WRITTEN_ROWS", 7)
    monkeypatch.setattr(tracing, "APART", 4)
    monkeypatch.setattr(tracing, "MOST_AT_ONCE", 20)
    monkeypatch.setattr(following, "_AT_ONCE", (2, 3))
    monkeypatch.setattr(following, "_AT_ONCE_OF_MANY", (1, 2))
    monkeypatch.setattr(following, "_AT_ONCE_OF_ALL", (1, 2))
    monkeypatch.setattr(stretches, "_TOGETHER", (2, 3))


@pytest.fixture(autouse=True)
def never_quick(monkeypatch) -> None:
    """As if there were millions."""
    monkeypatch.setattr(pages, "_quickly", lambda *_: None)


def call(number: int | str, at: datetime, attempts: int = 1, **fields: object):
    """A call that ended then; with more attempts it corrects what was told of it."""
    body = f"result=Completed&call_id={number}&attempts={attempts}&last_attempt_timestamp={int(at.timestamp())}"
    body += "".join(f"&{name}={value}" for name, value in fields.items())
    return interpret(Delivery(id=uuid4(), integration="a", received_at=NOW, body=body.encode()))


def refresh(database: Database, steps: int = 100_000) -> None:
    for _ in range(steps):
        if not rolling.refresh(database, datetime.now(UTC), AT_ONCE):
            return


def questions(rows: list[dict], random: Random) -> list[Question]:
    """One of each field and operator that traces may answer."""
    found = []
    for field in traces.FIELDS:
        values = [row[field] for row in rows if row[field] is not None]
        operators = [Operator.NULL, Operator.CONTAINS]
        if field not in ("events", "extra", "problems"):
            is_text = values and isinstance(values[0], str)
            operators = [*ORDERED, *operators[:1], *([Operator.PREFIX, Operator.CONTAINS] if is_text else [])]
        for operator in operators:
            asked = [random.random() < 0.5]
            if operator is Operator.PREFIX or (operator is Operator.CONTAINS and values):
                texts = [random.choice(values) if isinstance(values[0], str) else "note" for _ in range(2)]
                first = random.randint(0, 20) if operator is Operator.CONTAINS else 0
                asked = [text[first : first + random.randint(0, 7)] for text in texts]
            elif operator is not Operator.NULL:
                asked = random.sample(values, min(len(values), random.choice([1, 2])))
            if asked and (operator is not Operator.CONTAINS or values):
                order = [Order("ended_at", descending=random.random() < 0.7)]
                conditions = [Condition(field, operator, asked)]
                if random.random() < 0.3:
                    conditions.append(Condition("ended_at", Operator.GTE, [random.choice(rows)["ended_at"]]))
                found.append(
                    Question(
                        records=Records.OUTCOMES, conditions=conditions, order=order, limit=random.choice([20, 500])
                    )
                )
    return found


def walked(database: Database, question: Question) -> list[object]:
    """The ids of all pages, one after the other."""
    found: list[object] = []
    while True:
        page = pages.page(database, question)
        found += ids(page.rows)
        if not page.more_after:
            return found
        last = page.rows[-1]
        question = replace(question, edge=Edge([last[order.field] for order in question.whole_order]))


def assert_right(database: Database, random: Random, share: float = 1.0) -> None:
    rows = all_rows(database)
    for question in questions(rows, random) if rows else []:
        if random.random() < share:
            found = ids(chosen(rows, question))
            assert walked(database, question) == found, question
            assert counts.count(database, question).value == len(found), question


@pytest.mark.parametrize("steps", [0, 2, 100_000])
def test_every_field_with_every_operator_finds_what_is_there(filled, steps) -> None:
    refresh(filled, steps)
    assert_right(filled, Random(steps))


def test_a_page_of_one_value_looks_at_the_seconds_that_hold_it(filled) -> None:
    refresh(filled)
    save(filled, [call("x1", NOW), call("x2", NOW + timedelta(minutes=40))])
    refresh(filled)
    question = asked("call_id", "x2")
    with filled.reading(at_one_moment=True) as connection:
        found = list(following.places(connection, question, Deadline(10), down=True))
    assert found == [(NOW + timedelta(minutes=40), NOW + timedelta(minutes=40, seconds=1))]


@pytest.mark.parametrize("operator", [Operator.EQUAL, Operator.PREFIX, Operator.CONTAINS])
def test_what_none_has_is_told_without_a_look_at_outcomes(filled, operator) -> None:
    refresh(filled)
    none = replace(asked("status_raw", ""), conditions=[Condition("status_raw", operator, ["+19"])])
    with filled.reading(at_one_moment=True) as connection:
        assert list(following.places(connection, none, Deadline(10), down=True)) == []


def test_a_part_of_a_text_behind_the_end_of_its_key_is_found(filled) -> None:
    refresh(filled)
    behind = replace(asked("call_id", ""), conditions=[Condition("call_id", Operator.CONTAINS, ["tells-of-3"])])
    assert [row["call_id"] for row in pages.page(filled, behind).rows] == ["more-than-a-key-tells-of-3"]


def test_looking_through_traces_has_the_time_limit(filled, monkeypatch) -> None:
    refresh(filled)
    monkeypatch.setattr(pages, "STATEMENT_SECONDS", -1)
    none = replace(asked("call_id", ""), conditions=[Condition("call_id", Operator.CONTAINS, ["~"])])
    with pytest.raises(TooSlow, match="ask for less time"):
        pages.page(filled, none)


def test_writing_correcting_and_refreshing_in_any_order_is_right(database) -> None:
    random = Random(4)
    for turn in range(25):
        moved = [
            call(
                random.randint(1, 30),
                NOW + timedelta(minutes=random.choice([0, 7, 16, 3000, -3000])),
                random.randint(1, 9),
                message_reference=random.choice("xyz"),
                phone_number=f"617555120{random.randint(0, 9)}",
            )
            for _ in range(4)
        ]
        save(database, moved)
        refresh(database, random.choice([0, 1, 2, 100]))
        assert_right(database, random, 0.05 if turn % 5 else 0.3)


@pytest.mark.parametrize("steps", [1, 3, 6, 100_000])
@pytest.mark.parametrize("most", [0, 1_000])
def test_days_traced_at_once_and_by_their_quarters_tell_the_same(filled, monkeypatch, steps, most) -> None:
    monkeypatch.setattr(tracing, "MOST_AT_ONCE", most)
    refresh(filled, steps)
    assert_right(filled, Random(steps), 0.3)


def test_a_day_that_is_new_and_over_is_traced_at_once(filled, monkeypatch) -> None:
    monkeypatch.setattr(tracing, "MOST_AT_ONCE", 1_000)
    refresh(filled)
    of_past = select(kept.c.quarter).where(kept.c.span == Span.QUARTER, kept.c.quarter < quarter_of(NOW))
    with filled.reading() as connection:
        assert connection.execute(of_past).all() == []


def test_a_day_cut_off_anywhere_loses_nothing(filled, monkeypatch) -> None:
    monkeypatch.setattr(tracing, "MOST_AT_ONCE", 1_000)
    whole, random = tracing.of_day_instead, Random(7)
    for after in (0, 1, 3, 8):
        monkeypatch.setattr(tracing, "of_day_instead", lambda *of, after=after: cut_off(whole(*of), after))
        with pytest.raises(StoreUnavailable):
            refresh(filled)
        assert_right(filled, random, 0.15)
    monkeypatch.setattr(tracing, "of_day_instead", whole)
    refresh(filled)
    assert_right(filled, random, 0.3)


def cut_off(writes, after: int):
    yield from islice(writes, after)
    raise StoreUnavailable("gone")


def test_quarters_of_a_day_become_one_and_only_where_there_are_many(filled, monkeypatch) -> None:
    monkeypatch.setattr(tracing, "MOST_AT_ONCE", 0)
    refresh(filled)
    with filled.reading() as connection:
        spans = connection.execute(select(kept.c.span, kept.c.quarter).where(kept.c.field == "")).all()
        merged = {quarter for span, quarter in spans if span == Span.DAY}
        apart = [quarter for span, quarter in spans if span == Span.QUARTER]
        orphans = select(kept.c.quarter).where(kept.c.span == Span.QUARTER, kept.c.quarter.not_in(apart))
        today = quarter_of(datetime.now(UTC))
        assert merged
        assert len([one for one in apart if one < Span.DAY.of(today)]) <= tracing.APART
        assert connection.execute(orphans).all() == []


def test_a_merge_cut_off_anywhere_loses_nothing(filled, monkeypatch) -> None:
    monkeypatch.setattr(tracing, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(tracing, "APART", 10_000)
    refresh(filled)
    monkeypatch.setattr(tracing, "APART", 0)
    random = Random(6)
    whole = tracing.merged

    def cut(connection, merging):
        for number, write in enumerate(whole(connection, merging)):
            if number == cut.after:
                return
            yield write

    monkeypatch.setattr(tracing, "merged", cut)
    for cut.after in (1, 4, 17, 26):
        rolling.refresh(filled, datetime.now(UTC), AT_ONCE)
        assert_right(filled, random, 0.15)


def test_a_quarter_with_too_many_outcomes_is_looked_at_itself(filled, monkeypatch) -> None:
    monkeypatch.setattr(tracing, "MOST_OUTCOMES", 2)
    refresh(filled)
    with filled.reading() as connection:
        assert connection.execute(select(kept.c.quarter).where(kept.c.entries == tracing.UNTRACED)).first()
    assert_right(filled, Random(8))


def test_traces_of_what_is_gone_lead_to_nothing(filled) -> None:
    refresh(filled)
    with filled.writing() as connection:
        connection.execute(update(outcomes).where(outcomes.c.call_id.is_not(None)).values(call_id="other"))
    page = pages.page(filled, asked("call_id", "1"))
    assert page.rows == []


def test_of_two_that_refresh_at_once_the_later_reading_stays(filled, monkeypatch) -> None:
    """The one that has read before must not write its traces over those of the one that has read after."""
    refresh(filled)
    save(filled, [call(1, NOW)])
    read = tracing.of_quarter

    def overtaken(connection, quarter):
        rows = read(connection, quarter)
        monkeypatch.setattr(tracing, "of_quarter", read)
        save(filled, [call(2, NOW)])
        refresh(filled)
        return rows

    monkeypatch.setattr(tracing, "of_quarter", overtaken)
    rolling.refresh(filled, datetime.now(UTC), AT_ONCE)
    with filled.reading() as connection:
        assert connection.execute(select(rollup_dirty)).all() == []
    refresh(filled)
    assert [row["call_id"] for row in pages.page(filled, asked("call_id", "2")).rows] == ["2"]


def test_a_mark_set_later_by_another_delivery_is_found(database) -> None:
    """That an outcome is possibly a duplicate is told by what comes after it, on another day."""
    for day in range(2):
        at = NOW + timedelta(days=day)
        save(
            database, [interpret(Delivery(id=uuid4(), integration="a", received_at=at, body=b"status=Completed&z=1"))]
        )
        refresh(database)
        found = pages.page(database, asked("possible_duplicate", True)).rows
        assert len(found) == 2 * day


def test_the_mark_that_reading_again_takes_off_is_no_longer_found(database) -> None:
    sent = [
        Delivery(id=uuid4(), integration="a", received_at=NOW + timedelta(days=day), body=b"status=Completed&z=1")
        for day in range(2)
    ]
    save(database, [interpret(one) for one in sent])
    refresh(database)
    seen = changes.horizon(database)
    reprocess_one(database, lambda one: Reading(one, reason="no_known_field", normaliser="2"), sent[1].id)
    refresh(database)
    assert len(pages.page(database, asked("possible_duplicate", False)).rows) == 1
    [change] = changes.page(database, changes.Span(seen, changes.horizon(database)))
    assert interpret(sent[0]).outcome.id in change.outcome_ids


def test_the_count_is_of_the_whole_filter_on_every_page(database) -> None:
    save(database, [call(f"x{number}", NOW + timedelta(hours=number)) for number in range(10)])
    refresh(database)
    question = replace(asked("call_id", ""), conditions=[Condition("call_id", Operator.PREFIX, ["x"])], limit=3)
    last = pages.page(database, question).rows[-1]
    second = replace(question, edge=Edge([last["ended_at"], last["id"]]))
    for count in (counts.count, counts.estimate):
        assert count(database, second) == count(database, question)
        assert count(database, second).value == 10


def test_while_all_is_made_anew_no_row_comes_twice(filled, monkeypatch) -> None:
    monkeypatch.setattr(tracing, "MOST_OUTCOMES", 2)
    refresh(filled)
    save(filled, [call("new", NOW)])
    with filled.writing() as connection:
        rolling._start_over(connection)
    for steps in (1, 1, 2):
        refresh(filled, steps)
        assert_right(filled, Random(9), share=0.3)


def test_the_last_moment_there_is_can_be_asked_for(filled) -> None:
    refresh(filled)
    last = datetime.max.replace(tzinfo=UTC)
    for operator, share in ((Operator.LTE, 1), (Operator.GT, 0)):
        until = Condition("ended_at", operator, [last])
        question = replace(asked("integration", "a"), conditions=[until])
        assert counts.count(filled, question).value == share * len(all_rows(filled))
        by_call = replace(question, conditions=[until, Condition("call_id", Operator.NULL, [False])])
        assert len(walked(filled, by_call)) == share * len([one for one in all_rows(filled) if one["call_id"]])


def asked(field: str, value: object) -> Question:
    order = [Order("ended_at", descending=True)]
    return Question(records=Records.OUTCOMES, conditions=[Condition(field, Operator.EQUAL, [value])], order=order)


def test_all_looks_of_a_page_together_have_the_time_limit(filled, monkeypatch) -> None:
    refresh(filled)
    monkeypatch.setattr(pages, "STATEMENT_SECONDS", -1)
    with pytest.raises(TooSlow, match="ask for less time"):
        pages.page(filled, asked("identity", "call_id"))


def test_numbers_beyond_all_lead_nowhere(filled) -> None:
    refresh(filled)
    for operator, value in ((Operator.LT, 0), (Operator.GT, 2)):
        question = replace(asked("attempts", 0), conditions=[Condition("attempts", operator, [value])])
        with filled.reading(at_one_moment=True) as connection:
            assert list(following.places(connection, question, Deadline(10), down=True)) == []


@pytest.mark.parametrize("span", list(tracing.SPANS))
def test_traces_that_another_program_made_otherwise_are_not_relied_on(filled, span) -> None:
    """An older one that still runs writes keys that are cut sooner, and does not say so."""
    refresh(filled)
    with filled.writing() as connection:
        foreign = update(kept).where(kept.c.field == tracing.DIRECTORY, kept.c.span == span).values(entries=b"")
        assert connection.execute(foreign).rowcount
        connection.execute(delete(kept).where(kept.c.field == "call_id", kept.c.span == span))
    assert_right(filled, Random(11), share=0.3)
    assert ids(pages.page(filled, asked("call_id", "1")).rows) == ids(chosen(all_rows(filled), asked("call_id", "1")))


def test_a_word_beside_another_value_leaves_its_traces_in_use(filled) -> None:
    refresh(filled)
    both = [Condition("integration", Operator.EQUAL, ["a"]), Condition("status_raw", Operator.EQUAL, ["~"])]
    question = replace(asked("status_raw", "~"), conditions=both)
    with filled.reading(at_one_moment=True) as connection:
        found = pages._places(connection, question, Deadline(10), down=True)
        assert found is not None
        assert list(found) == []


def test_many_parts_are_looked_for_in_the_outcomes(filled) -> None:
    """In traces each costs a look at all that there is."""
    refresh(filled)
    many = replace(asked("call_id", ""), conditions=[Condition("call_id", Operator.CONTAINS, ["~", *"123456789xy"])])
    with filled.reading(at_one_moment=True) as connection:
        assert following.places(connection, many, Deadline(10), down=True) is None
    assert walked(filled, many) == ids(chosen(all_rows(filled), many))


def test_looking_up_where_traces_lead_has_the_time_limit(filled, monkeypatch) -> None:
    refresh(filled)
    monkeypatch.setattr(pages, "STATEMENT_SECONDS", -1)
    monkeypatch.setattr(following._Walk, "_places", lambda self, days: {day: {traces.place_of(0)} for day in days})
    with pytest.raises(TooSlow, match="ask for less time"):
        pages.page(filled, asked("identity", "call_id"))
