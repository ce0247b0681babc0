"""A delivery that the store refuses, in the midst of others: it is quarantined, and costs them nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.conftest import FORM, Sender, dev_body
from tests.system.faults import Load, assert_nothing_lost_or_doubled, metric, running

POISONED = 5


@pytest.fixture
def sender(new_database_url: Callable[[], str], tmp_path: Path) -> Iterator[Sender]:
    with running(new_database_url(), tmp_path) as made:
        refuse_poison(made)
        yield made


def refuse_poison(sender: Sender) -> None:
    """From now on the store takes no outcome whose message reference says poison."""
    with sender.service.sql() as connection:
        if sender.service.database_url.startswith("sqlite"):
            connection.execute(
                "CREATE TRIGGER poison BEFORE INSERT ON outcomes WHEN new.message_reference = 'poison'"
                " BEGIN SELECT RAISE(ABORT, 'poisoned'); END"
            )
        else:
            connection.execute("ALTER TABLE outcomes ADD CONSTRAINT poison CHECK (message_reference <> 'poison')")
        connection.commit()


def test_a_poisoned_delivery_within_groups_is_quarantined_and_costs_the_others_nothing(sender: Sender) -> None:
    service = sender.service
    poisoned = service.sender("poisoned")
    with Load(sender, "beside", threads=16, pause=0.001) as load:
        load.wait_for(100)
        answers = []
        for number in range(POISONED):
            body = dev_body(call_id=f"poisoned-{number}", message_reference="poison", attempts="1")
            answers.append(service.request("POST", poisoned.path, body, {"Content-Type": FORM}))
            load.wait_for(50)
    assert {(one.status, one.headers["X-Delivery-Verdict"]) for one in answers} == {(200, "quarantined")}
    assert {post.status for post in load.posts} == {200}
    assert "spooled" not in {post.verdict for post in load.posts}
    assert_nothing_lost_or_doubled(sender, load.acknowledged)
    with service.sql() as connection:
        refused = connection.execute("SELECT count(*) FROM deliveries WHERE reason = 'store_refused'").fetchone()[0]
        made = connection.execute("SELECT count(*) FROM outcomes WHERE call_id LIKE 'poisoned-%'").fetchone()[0]
    assert (refused, made) == (POISONED, 0)
    assert metric(service, "plum_quarantined_total") == POISONED
