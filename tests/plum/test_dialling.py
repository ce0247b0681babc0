"""What becomes of a queued call, without clock and network."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from app.plum.simulator.dialling import RING_SECONDS, CallCourse, dial
from app.plum.simulator.queue_requests import QueueRequest, Rejected, batch, single
from app.plum.simulator.scheduler import Scheduler
from app.plum.simulator.wire_forms import ANY_FORM
from tests.conftest import wait_until

NOW = 1_767_614_400
ORDER = QueueRequest("insight", "1/2", "16175550123", "http://h/r", "", "", "", 3, 300, None, None)


def courses(order: QueueRequest, count: int = 300) -> list[CallCourse]:
    rngs = [random.Random(f"{order.product} {seed}") for seed in range(count)]
    return [dial(order, 7, NOW, rng, ANY_FORM.drawn(rng)) for rng in rngs]


def words(made: list[CallCourse]) -> Counter[str]:
    return Counter(course.state(course.ended_at) for course in made)


@pytest.mark.parametrize("product", ["dev", "insight", "fuse"])
def test_without_a_window_every_call_is_dialled_and_none_is_canceled_unasked(product: str) -> None:
    made = courses(replace(ORDER, product=product))
    assert set(words(made)) == {"completed", "failed"} | (set() if product == "dev" else {"rejected"})
    assert all(1 <= course.story.attempts <= 3 for course in made)


def test_nothing_is_dialled_before_its_window_opens() -> None:
    for course in courses(replace(ORDER, start=NOW + 3600)):
        assert all(at >= NOW + 3600 for name, at in course.story.events if name != "queued")
        assert course.state(NOW + 3599) == "queued"


def test_attempts_wait_for_one_another() -> None:
    for course in courses(ORDER):
        dialled = [at for name, at in course.story.events if name == "dialing"]
        assert all(later - earlier >= 300 for earlier, later in pairwise(dialled))
        assert len(dialled) == course.story.attempts


def test_a_closing_window_ends_the_attempts_and_posts_then() -> None:
    made = courses(replace(ORDER, end=NOW + 200))
    cut = [course for course in made if course.ended_at == NOW + 200]
    assert all(course.story.attempts <= 1 for course in made)
    assert set(words(cut)) == {"failed", "uncalled"}


@pytest.mark.parametrize(("product", "word"), [("dev", "Failed"), ("insight", "uncalled"), ("fuse", "uncalled")])
def test_a_window_that_closes_at_once_leaves_every_call_undialled(product: str, word: str) -> None:
    made = courses(replace(ORDER, product=product, end=NOW + 1), 50)
    assert words(made) == {"uncalled": 50}
    assert {course.story.ending.status_raw for course in made} == {word}
    assert {course.story.attempts for course in made} == {0}


def test_a_call_goes_through_plums_states() -> None:
    course = next(one for one in courses(ORDER) if one.story.attempts == 2 and one.story.last("connected"))
    dialled = [at for name, at in course.story.events if name == "dialing"]
    connected = course.story.last("connected")
    assert [
        course.state(at)
        for at in (NOW, dialled[0], dialled[0] + RING_SECONDS, dialled[1], connected, course.ended_at - 1)
    ] == ["queued", "dialing", "queued", "dialing", "connected", "connected"]
    assert course.details(dialled[0])["attempts"] == 1
    assert course.details(course.ended_at)["status"] == "completed"


def test_a_canceled_call_drops_its_future_events() -> None:
    for course in courses(replace(ORDER, start=NOW + 3600)):
        canceled = course.canceled(NOW + 1)
        assert (canceled.state(NOW + 1), canceled.story.attempts) == ("canceled", 1)
        assert [name for name, _ in canceled.story.events] == ["queued", "canceled"]
        assert canceled.ended_at == canceled.story.last() == NOW + 1


FORM = {"phone_number": "16175550123", "result_url": "http://h/r", "start_url": "http://h/s"}


@pytest.mark.parametrize(
    ("product", "changes", "error"),
    [
        ("fuse", {"phone_number": ""}, "phone_number"),
        ("fuse", {"max_attempts": "11"}, "max_attempts must be an integer between 1 and 10"),
        ("fuse", {"max_attempts": "2"}, "reattempt_wait is required"),
        ("fuse", {"reattempt_wait": "59"}, "between 60 and 86400"),
        ("fuse", {"is_pci": "2"}, "is_pci"),
        ("fuse", {"start_timestamp": "20", "end_timestamp": "10"}, "end_timestamp cannot be earlier"),
        ("insight", {"end_timestamp": "soon"}, "end_timestamp must be an integer"),
        ("dev", {"max_retries": "11"}, "max_retries"),
        ("dev", {"max_retry": "2", "retry_interval": "172801"}, "retry_interval"),
        ("dev", {"start_url": ""}, "start_url is required"),
        ("dev", {"result_url": "http://h/" + "x" * 255}, "result_url is longer than 255"),
        ("dev", {"message_reference": "x" * 256}, "message_reference is longer than 255"),
    ],
)
def test_an_order_beyond_plums_limits_is_rejected(product: str, changes: dict[str, str], error: str) -> None:
    with pytest.raises(Rejected, match=error):
        single(product, "1/2", FORM | changes)


def test_dev_counts_retries_in_either_spelling() -> None:
    for name in ("max_retries", "max_retry"):
        order = single("dev", "default", FORM | {name: "2", "retry_interval": "60"})
        assert (order.max_attempts, order.reattempt_wait) == (3, 60)


def test_devs_rows_have_references_and_parameters_of_their_own() -> None:
    content = b"destination,message_reference,call_parameters\n16175550123,a,x=1\n16175550124\n"
    made = batch("dev", "spring", FORM | {"message_reference": "all"}, content)
    assert [(one.phone_number, one.message_reference, one.call_parameters) for one in made] == [
        ("16175550123", "a", "x=1"),
        ("16175550124", "all", ""),
    ]


# The agenda


@pytest.fixture
def agenda() -> Iterator[Scheduler]:
    made = Scheduler()
    yield made
    made.close(lambda: None)


def test_actions_run_at_their_moments_whatever_the_order_they_came_in(agenda: Scheduler) -> None:
    done: list[str] = []
    now = time.monotonic()
    agenda.at(now + 0.2, lambda: done.append("later"))
    agenda.at(now + 0.05, lambda: done.append("sooner"))
    agenda.at(now + 60, lambda: done.append("never"))
    wait_until(lambda: done == ["sooner", "later"])
    assert time.monotonic() >= now + 0.2


def test_an_action_that_fails_is_reported_and_the_others_go_on(
    agenda: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    agenda.at(0, lambda: done.append(str(1 / 0)))
    agenda.at(0, lambda: done.append("next"))
    wait_until(lambda: done and caplog.records)
    assert done == ["next"]
    assert "ZeroDivisionError" in caplog.text
