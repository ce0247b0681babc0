"""What enters the store: counted once, folded in any order, and never at the cost of its neighbours."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from app.errors import StoreUnavailable
from app.interpret import interpret
from app.model import Delivery, Outcome, Reading, Verdict
from app.normalise import fold
from app.store import pagination
from app.store.database import CONNECTIONS, Database
from app.store.query.question import Condition, Operator, Question, Records
from app.store.readings import judge, rehearse, save
from app.store.rows import outcome_from_row
from app.store.schema import deliveries, outcomes

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)
INSIGHT = b'{"status":"canceled","attempts":"1","queued_timestamp":"1429214458"}'


def delivery(body: bytes, **fields) -> Delivery:
    fields = {"integration": "ours", "received_at": NOON, "content_type": None} | fields
    return Delivery(id=uuid4(), body=body, **fields)


def dev(call_id: int = 1, attempts: int = 1, result: str = "Completed", callee_type: str = "voice") -> bytes:
    call = f"call_id={call_id}&phone_number=6175551234&attempts={attempts}"
    return f"{call}&result={result}&callee_type={callee_type}".encode()


def read(body: bytes) -> Reading:
    return interpret(delivery(body))


def post(database: Database, *sent: Delivery):
    return save(database, [interpret(one) for one in sent])


def stored(database: Database, outcome_id: UUID | None) -> Outcome:
    with database.reading() as connection:
        row = connection.execute(select(outcomes).where(outcomes.c.id == outcome_id)).mappings().one()
    return outcome_from_row(row)


def count(database: Database, table, *conditions) -> int:
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()


def test_a_new_call_is_applied_and_kept_as_read(database) -> None:
    one = delivery(dev(), reference="r-1", headers=(("User-Agent", "curl"),), query="a=b")
    [receipt] = post(database, one)
    assert receipt.verdict is Verdict.APPLIED
    assert stored(database, receipt.outcome_id) == interpret(one).outcome


def test_the_same_reading_again_is_a_duplicate_however_encoded(database) -> None:
    as_json = b'{"call_id":1,"phone_number":6175551234,"result":"Completed","callee_type":"voice","attempts":1}'
    verdicts = [post(database, delivery(body))[0].verdict for body in (dev(), dev(), as_json)]
    assert verdicts == [Verdict.APPLIED, Verdict.DUPLICATE, Verdict.DUPLICATE]


def test_an_older_state_is_superseded_and_a_newer_one_applied(database) -> None:
    bodies = [
        dev(attempts=2),
        dev(attempts=1, result="Failed", callee_type="busy"),
        dev(attempts=3),
        dev(attempts=2),
    ]
    receipts = [post(database, delivery(body))[0] for body in bodies]
    assert [receipt.verdict for receipt in receipts] == [
        Verdict.APPLIED,
        Verdict.SUPERSEDED,
        Verdict.APPLIED,
        Verdict.DUPLICATE,
    ]
    assert stored(database, receipts[0].outcome_id).attempts == 3


def test_verdicts_within_a_group_equal_those_of_single_deliveries(database) -> None:
    bodies = [dev(attempts=2), dev(attempts=1), dev(attempts=3), dev(attempts=2), b"nothing"]
    verdicts = [receipt.verdict for receipt in post(database, *map(delivery, bodies))]
    assert verdicts == [
        Verdict.APPLIED,
        Verdict.SUPERSEDED,
        Verdict.APPLIED,
        Verdict.DUPLICATE,
        Verdict.QUARANTINED,
    ]


def test_a_delivery_saved_again_counts_once_and_gets_its_first_receipt(database) -> None:
    good, bad = delivery(dev()), delivery(b"nothing")
    first = post(database, good, bad)
    again = post(database, good, bad, good)
    assert [receipt.verdict for receipt in again] == [Verdict.APPLIED, Verdict.QUARANTINED, Verdict.APPLIED]
    assert again[0].outcome_id == first[0].outcome_id
    assert stored(database, first[0].outcome_id).deliveries == 1


@pytest.mark.parametrize("seed", range(12))
def test_every_order_and_grouping_gives_the_fold_of_the_readings(database, seed) -> None:
    random = Random(seed)
    sent = [
        delivery(
            dev(
                attempts=random.randint(1, 3),
                result=random.choice(["Completed", "Failed", "odd"]),
                callee_type=random.choice(["voice", "busy", "unknown"]),
            ),
            received_at=NOON + timedelta(seconds=random.randint(0, 99)),
        )
        for _ in range(random.randint(2, 9))
    ]
    expected = fold(reading.outcome for reading in map(interpret, sent) if reading.outcome)
    random.shuffle(sent)
    while sent:
        size = random.randint(1, 4)
        post(database, *sent[:size])
        sent = sent[size:]
    assert stored(database, expected.id) == expected


def test_sixty_four_simultaneous_saves_of_one_call_give_one_outcome(database) -> None:
    sent = [delivery(dev(attempts=attempt % 5)) for attempt in range(64)]
    receipts = _at_once([lambda one=one: post(database, one)[0] for one in sent])
    assert len({receipt.outcome_id for receipt in receipts}) == 1
    outcome = stored(database, receipts[0].outcome_id)
    assert (outcome.deliveries, outcome.attempts) == (64, 4)
    assert count(database, deliveries, deliveries.c.outcome_id == outcome.id) == 64
    assert sum(receipt.verdict is Verdict.DUPLICATE for receipt in receipts) == 59


def test_groups_that_share_calls_in_opposite_order_do_not_deadlock(database) -> None:
    there = [delivery(dev(call_id=number)) for number in range(20)]
    back = [delivery(dev(call_id=number, attempts=2)) for number in reversed(range(20))]
    _at_once([lambda: post(database, *there), lambda: post(database, *back)] * 4)
    assert count(database, outcomes, outcomes.c.integration == "ours") == 20


def test_identical_bodies_without_identity_are_separate_outcomes(database) -> None:
    alone = post(database, delivery(INSIGHT))[0]
    assert not stored(database, alone.outcome_id).possible_duplicate
    other = post(database, delivery(INSIGHT))[0]
    elsewhere = post(database, delivery(INSIGHT, integration="theirs"))[0]
    assert stored(database, alone.outcome_id).possible_duplicate
    assert stored(database, other.outcome_id).possible_duplicate
    assert not stored(database, elsewhere.outcome_id).possible_duplicate


def test_identical_bodies_posted_at_once_are_all_marked(database) -> None:
    receipts = _at_once([lambda: post(database, delivery(INSIGHT))[0]] * 24)
    assert len({receipt.outcome_id for receipt in receipts}) == 24
    assert all(stored(database, receipt.outcome_id).possible_duplicate for receipt in receipts)


_BODIES = st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 3))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(st.lists(_BODIES, min_size=1, max_size=6), min_size=1, max_size=8))
def test_whatever_comes_together_an_outcome_is_marked_if_its_integration_has_its_body_twice(database, groups) -> None:
    run, made = uuid4().hex, []
    for group in groups:
        sent = [delivery(INSIGHT + b" " * body, integration=f"{run}-{integration}") for integration, body in group]
        made += zip(group, post(database, *sent), strict=True)
    counts = Counter(body for body, _ in made)
    for body, receipt in made:
        assert stored(database, receipt.outcome_id).possible_duplicate == (counts[body] > 1)


def test_identical_bodies_with_references_are_no_possible_duplicates(database) -> None:
    receipts = [post(database, delivery(INSIGHT, reference=name))[0] for name in ("a", "b")]
    assert not any(stored(database, receipt.outcome_id).possible_duplicate for receipt in receipts)


def test_a_delivery_that_the_store_refuses_is_quarantined_alone(database) -> None:
    readings = [interpret(delivery(dev(call_id=number))) for number in range(5)]
    outcome = readings[3].outcome
    assert outcome is not None
    readings[3] = readings[3]._replace(outcome=outcome._replace(attempts=2**70))
    receipts = save(database, readings)
    assert [receipt.verdict for receipt in receipts].count(Verdict.APPLIED) == 4
    assert (receipts[3].verdict, receipts[3].reason) == (Verdict.QUARANTINED, "store_refused")
    assert count(database, deliveries, deliveries.c.id.in_([r.delivery.id for r in readings])) == 5


@pytest.mark.parametrize("field", ["call_id", "message_reference"])
def test_a_call_is_stored_and_found_whatever_the_length_of_what_identifies_it(database, field) -> None:
    """Texts that do not compress, longer than an entry of PostgreSQL's indexes may be."""
    random = Random(4)
    texts = ["".join(chr(random.randrange(0x4E00, 0x9FFF)) for _ in range(length)) for length in (500, 501, 100_000)]
    receipts = post(database, *(delivery(json.dumps({"result": "Failed", field: one}).encode()) for one in texts))
    assert [receipt.verdict for receipt in receipts] == [Verdict.APPLIED] * 3
    for values in (*([one] for one in texts), texts):
        condition = Condition(field, Operator.EQUAL, values)
        found = pagination.page(database, Question(records=Records.OUTCOMES, conditions=[condition])).rows
        assert sorted(row[field] for row in found) == sorted(values)


def test_a_delivery_that_exceeds_a_limit_of_the_store_is_quarantined_alone(crowded) -> None:
    long = "".join(map(chr, Random(4).choices(range(0x4E00, 0x9FFF), k=5000)))
    readings = [interpret(delivery(dev(call_id=number), reference=long[: number * 2500])) for number in range(3)]
    assert [receipt.reason for receipt in save(crowded, readings)] == [None, "store_refused", "store_refused"]


def test_a_group_is_stored_whole_or_not_at_all(database, monkeypatch) -> None:
    def fail(*_):
        raise StoreUnavailable("gone in the middle")

    monkeypatch.setattr("app.store.readings.judge", fail)
    before = count(database, deliveries)
    with pytest.raises(StoreUnavailable):
        post(database, delivery(dev(call_id=1)), delivery(dev(call_id=2)))
    assert count(database, deliveries) == before


def test_a_receipt_has_the_disposition_if_it_is_new_or_has_changed(database) -> None:
    bodies = [dev(attempts=1, result="Failed", callee_type="busy"), dev(attempts=2), dev(attempts=3)]
    told = [post(database, delivery(body))[0].disposition for body in bodies]
    assert told == ["busy", "answered", None]


def _at_once(works):
    """As many at once as there are connections; the others wait here, since the pool's own wait is limited."""
    results, barrier = [None] * len(works), threading.Barrier(len(works))
    connections = threading.Semaphore(CONNECTIONS)

    def run(at: int) -> None:
        barrier.wait()
        with connections:
            results[at] = works[at]()

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert None not in results, "a save failed"
    return results


def test_the_deliveries_of_one_call_are_not_each_compared_with_all_others() -> None:
    def steps(count: int) -> int:
        """The calls of functions that the verdicts on so many different readings of one call take."""
        readings = [read(dev(attempts=number)) for number in range(count)]
        group = [(reading.delivery, reading.outcome) for reading in readings if reading.outcome]
        taken: list[str] = []
        sys.setprofile(lambda frame, event, argument: taken.append(event))
        try:
            judge(reversed(group), None, [])
        finally:
            sys.setprofile(None)
        return len(taken)

    assert steps(400) < 3 * steps(200)


def test_an_id_that_a_group_has_twice_counts_once(database) -> None:
    """As in a file of the spool that was copied, or a line that was."""
    first = read(b"result=Completed&call_id=1&attempts=1")
    again = read(b"result=Completed&call_id=1&attempts=2")
    other = again._replace(delivery=again.delivery._replace(id=first.delivery.id))
    receipts = save(database, [first, other, first, again])
    assert [receipt.delivery_id for receipt in receipts] == [first.delivery.id] * 3 + [again.delivery.id]
    assert receipts[0] == receipts[1] == receipts[2]
    with database.reading() as connection:
        [outcome] = connection.execute(select(outcomes).where(outcomes.c.integration == "ours"))
        stored = connection.execute(
            select(deliveries.c.id, deliveries.c.body).where(deliveries.c.id == first.delivery.id)
        ).all()
    assert outcome.deliveries == 2
    assert [bytes(row.body) for row in stored] == [first.delivery.body]


def test_a_rehearsal_leaves_nothing_and_reports_unforeseen_errors(database, monkeypatch) -> None:
    rehearsed = read(b"rehearsal")
    rehearse(database, rehearsed)
    with database.reading() as connection:
        assert not connection.execute(select(deliveries).where(deliveries.c.id == rehearsed.delivery.id)).all()
    monkeypatch.setattr("app.store.readings.insert_rows", lambda *_: 1 / 0)
    with pytest.raises(StoreUnavailable, match="unforeseen"):
        rehearse(database, rehearsed)


def test_an_update_sets_no_id(crowded) -> None:
    """Where outcomes are distributed by it, none may, not even to itself."""
    with crowded.writing() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$BEGIN RAISE EXCEPTION 'set' USING ERRCODE = '0A000'; END$$"
            )
        )
        connection.execute(
            text("CREATE TRIGGER sets BEFORE UPDATE OF id ON outcomes FOR EACH ROW EXECUTE FUNCTION refuse()")
        )
    save(crowded, [read(b"result=Completed&call_id=1&attempts=1")])
    [receipt] = save(crowded, [read(b"result=Completed&call_id=1&attempts=2")])
    assert receipt.verdict is Verdict.APPLIED


def test_an_unsupported_feature_counts_as_an_absent_store(crowded) -> None:
    """Some distributed databases refuse a statement at one time and not at another; no delivery is to blame."""
    with pytest.raises(StoreUnavailable), crowded.writing() as connection:
        connection.execute(text("DO $$BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '0A000'; END$$"))
