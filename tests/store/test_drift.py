"""What is new is counted: each delivery once, however it is looked at, by whomever, and wherever that breaks off."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select

from app.drift import OTHERS, novelties
from app.errors import StoreUnavailable
from app.interpret import interpret
from app.model import Delivery, Reading
from app.plum import simulator
from app.store import drift
from app.store.asking.questions import Question, Records
from app.store.database import Database
from app.store.readings import save
from app.store.reprocess import reprocess
from app.store.rows import delivery_from_row
from app.store.schema import deliveries, drift_deliveries

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)
STRANGE = [b"&cost=3", b"&result=Odd", b"&attempts=many", b"&Leg[a]=1", b"&duration=1&duration=2", b""]


def delivery(body: bytes, integration: str = "ours", seconds: int = 0) -> Delivery:
    return Delivery(id=uuid4(), integration=integration, received_at=NOW + timedelta(seconds=seconds), body=body)


def campaign(seed: int, calls: int = 150) -> list[Reading]:
    """A misbehaving campaign, and calls told several times, some of whose bodies hold something new."""
    random = Random(seed)
    target = simulator.Target.parse("http://127.0.0.1/result/KEY")
    posts = [post for call in simulator.campaign([target], calls, seed=seed, misbehave=True) for post in call.posts]
    found = []
    for number, post in enumerate(posts):
        told = delivery(post.body, random.choice(["ours", "theirs"]), number)
        found.append(interpret(told._replace(content_type=post.headers.get("Content-Type"))))
    for _ in range(calls):
        body = b"result=Completed&callee_type=voice&call_id=%d" % random.randrange(calls // 3)
        strange = b"".join(random.sample(STRANGE, 2))
        found.append(interpret(delivery(body + strange, random.choice(["ours", "theirs"]), random.randrange(1000))))
    random.shuffle(found)
    return found


def expected(database: Database) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """All that is new, worked out from every body there is."""
    shown: dict[tuple[str, ...], list[tuple[datetime, UUID]]] = defaultdict(list)
    with database.reading() as connection:
        rows = connection.execute(select(deliveries).where(deliveries.c.outcome_id.is_not(None))).mappings().all()
    for row in rows:
        outcome = interpret(delivery_from_row(row)).outcome
        assert outcome
        for one in novelties(outcome):
            key = (one.kind.value, outcome.product.value, row["integration"], one.field, one.value)
            shown[key].append((row["received_at"], row["id"]))
    return {key: (len(seen), min(seen)[0], max(seen)[0], min(seen)[1]) for key, seen in shown.items()}


def counted(database: Database) -> dict[tuple[str, ...], tuple[Any, ...]]:
    names = ("kind", "product", "integration", "field", "value")
    return {
        tuple(row[name] for name in names): (row["count"], row["first_at"], row["last_at"], row["delivery_id"])
        for row in drift.list_drift(database)
    }


def catch_up(database: Database) -> None:
    while drift.advance(database, interpret):
        pass


def another(database: Database) -> Database:
    return Database(database.engine.url.render_as_string(hide_password=False))


def test_a_store_that_was_there_before_is_counted_whole(database) -> None:
    save(database, campaign(1))
    with database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM changes")  # it was there before the journal was
    catch_up(database)
    assert counted(database) == expected(database) != {}
    assert not drift.advance(database, interpret)


def test_what_comes_is_counted_whatever_was_looked_at_before(database, monkeypatch) -> None:
    random = Random(2)
    monkeypatch.setattr(drift, "BATCH", 20)
    readings = campaign(2)
    while readings:
        size = random.randrange(1, 40)
        save(database, readings[:size])
        readings = readings[size:]
        for _ in range(random.randrange(4)):
            drift.advance(database, interpret)
    catch_up(database)
    assert counted(database) == expected(database) != {}


def test_reading_again_counts_nothing_twice(database) -> None:
    save(database, campaign(3))
    catch_up(database)
    before = counted(database)
    for _ in reprocess(database, interpret, Question(records=Records.DELIVERIES)):
        drift.advance(database, interpret)
    catch_up(database)
    assert counted(database) == before == expected(database)


def test_a_step_that_breaks_off_anywhere_is_made_again(database, monkeypatch) -> None:
    random, breaks = Random(4), []
    monkeypatch.setattr(drift, "BATCH", 20)
    monkeypatch.setattr(drift, "READ_SECONDS", 0.0)  # of those that are read again one at a time
    save(database, campaign(4, calls=60))

    def breaking(name: str) -> Callable[..., Any]:
        real = getattr(drift, name)

        def maybe(*args: Any) -> Any:
            if random.random() < 0.05:
                breaks.append(name)
                raise StoreUnavailable("killed")
            return real(*args)

        return maybe

    for name in ("_look", "_mark", "_count", "_add"):
        monkeypatch.setattr(drift, name, breaking(name))
    is_more = True
    while is_more:
        try:
            is_more = drift.advance(database, interpret)
        except StoreUnavailable:
            continue
    assert len(breaks) > 3
    assert counted(database) == expected(database) != {}


def test_two_at_once_count_nothing_twice(database, monkeypatch) -> None:
    monkeypatch.setattr(drift, "BATCH", 10)
    readings, failures, done = campaign(5), [], threading.Event()

    def work() -> None:
        own = another(database)
        try:
            while drift.advance(own, interpret) or not done.is_set():
                pass
        except Exception as error:  # noqa: BLE001
            failures.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for start in range(0, len(readings), 25):
        save(database, readings[start : start + 25])
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    catch_up(database)
    assert counted(database) == expected(database) != {}


def test_new_names_without_end_fill_a_bounded_number_of_rows(database, monkeypatch) -> None:
    monkeypatch.setattr(drift, "MOST", 30)
    catch_up(database)
    for start in range(0, 120, 10):
        numbers = range(start, start + 10)
        save(database, [interpret(delivery(b"result=Completed&call_id=%d&x%d=1&y%d=1" % (n, n, n))) for n in numbers])
        drift.advance(database, interpret)
    save(database, [interpret(delivery(b"result=Odd&call_id=odd"))])
    catch_up(database)
    found = {key: value for key, value in counted(database).items() if key[2] == "ours"}
    others = ("field", "dev", "ours", OTHERS, "")
    named = [key for key in found if key[0] == "field" and key != others]
    assert len(named) == 30
    assert found[others][0] == 120 - len(named) // 2
    assert found[("word", "dev", "ours", "status", "Odd")][0] == 1
    save(database, [interpret(delivery(b"result=Completed&call_id=again&more=1&%s=1" % named[0][3].encode()))])
    catch_up(database)
    assert counted(database)[named[0]][0] == 2
    assert counted(database)[others][0] == found[others][0] + 1


def test_quarantined_deliveries_and_ordinary_ones_leave_nothing(database) -> None:
    catch_up(database)
    marked = select(func.count()).select_from(drift_deliveries)
    with database.reading() as connection:
        before = connection.execute(marked).scalar_one()
    shown = counted(database)
    save(database, [interpret(delivery(b"hello")), interpret(delivery(b"result=Failed&callee_type=busy&call_id=x"))])
    catch_up(database)
    with database.reading() as connection:
        assert connection.execute(marked).scalar_one() == before
    assert counted(database) == shown


def test_filters(database) -> None:
    catch_up(database)
    fuse = json.dumps({"status": "odd", "phone_number": "6175551234"}).encode()
    dev = b"result=Odd&call_id=2&cost=1"
    sent = [delivery(dev, "a", 10), delivery(fuse, "b", 20), delivery(dev, "c", 30)]
    save(database, [interpret(one) for one in sent])
    catch_up(database)

    def found(since: datetime | None = None, **among: list[str]) -> list[tuple[str, str]]:
        rows = drift.list_drift(database, since, among)
        return [(row["integration"], row["kind"]) for row in rows if row["integration"] in "abc"]

    assert [one for one, _ in found()] == ["c", "c", "b", "a", "a"]
    assert [one for one, _ in found(NOW + timedelta(seconds=20))] == ["c", "c", "b"]
    assert found(kind=["word"], product=["dev"]) == [("c", "word"), ("a", "word")]
    assert found(integration=["b", "x"]) == [("b", "word")]
