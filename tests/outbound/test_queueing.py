"""Contact lists are queued at a Plum of loopback, and their results find their calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.errors import Contradicts, StoreError
from app.interpret import interpret
from app.model import CallState, Delivery, ExpectedCall, Integration, Product
from app.outbound.queueing import Progress, QueueTarget, bulk_queue, queue
from app.outbound.reconciling import EVERY, CallCounts, call_counts
from app.plum.client import BulkRequest, CallRequest, FateUnknown, InvalidRequest, connect
from app.store import expected
from app.store.database import Database
from app.store.integrations import add_integration
from app.store.readings import save
from app.store.schema import expected_calls
from tests.conftest import copied

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)
RESULT = {"status": "completed", "attempts": "1", "last_attempt_timestamp": "1772971200"}
ANN, BOB = "16175550001", "16175550002"


class Plum:
    """Answers queue requests by `status`, and keeps the bodies that it got."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[str] = []
        self.before_answer: Callable[[], None] = lambda: None
        ids = count(1)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805
                self.bodies.append(handler.rfile.read(int(handler.headers["Content-Length"])).decode())
                if "/webservice/" in handler.path:
                    answer = f'<queuecall status="queued" call_id="{next(ids)}"/>'
                else:
                    answer = json.dumps({"success": True, "call_id": next(ids)})
                self.before_answer()
                handler.send_response(self.status)
                handler.send_header("Content-Length", str(len(answer)))
                handler.end_headers()
                handler.wfile.write(answer.encode())

            def log_message(handler, *_: Any) -> None:  # noqa: N805
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def times_called(self, number: str) -> int:
        return sum(body.count(number) for body in self.bodies)


class World:
    """A store with integrations, a Plum, and a clock that each look moves on."""

    def __init__(self, database: Database, plum: Plum) -> None:
        self.database = database
        self.plum = plum
        self.time = NOON
        self.step = timedelta()
        for product in Product:
            add_integration(database, product.value, product, NOON)

    def now(self) -> datetime:
        self.time += self.step
        return self.time

    def connect(self, product: Product) -> Any:
        return connect(product.value, self.plum.url, "user", "secret", per_second=10000)

    def target(self, product: str) -> QueueTarget:
        integration = Integration(product, Product(product))
        return QueueTarget(integration, "http://x.example/result/K", "http://x.example/start/K", "US")

    def queue_list(self, product: str, rows: str, batch: str = "spring", **options: bool) -> Progress:
        to = None if product == "dev" else "12/34"
        terms = BulkRequest(result_url="", name=batch, to=to, csv=rows.encode())
        progress = Progress()
        bulk_queue(self.database, self.connect, self.target(product), terms, self.now, progress, **options)
        return progress

    def queue(self, phone: str, reference: str | None, **terms: Any) -> Any:
        request = CallRequest(result_url="", to="12/34", phone=phone, reference=reference, **terms)
        return queue(self.database, self.connect, self.target("fuse"), request, self.now)

    def post(self, product: str, batch: str | None = None, **details: str) -> None:
        body = json.dumps(RESULT | details).encode()
        save(self.database, [interpret(Delivery(uuid4(), product, NOON, body, Product(product), batch=batch))])

    def calls(self) -> list[ExpectedCall]:
        with self.database.reading() as connection:
            return expected.calls_where(connection, expected_calls.c.id.is_not(None))

    def counts(self, nameless: int = 0) -> CallCounts:
        arrived = {("insight", "spring"): nameless}
        [found] = call_counts(self.database, EVERY, self.time + timedelta(hours=1), lambda _: arrived)
        return found


@pytest.fixture
def plum() -> Iterator[Plum]:
    made = Plum()
    yield made
    made.stop()


@pytest.fixture
def world(engine_name: str, tmp_path: Any, request: pytest.FixtureRequest, plum: Plum) -> Iterator[World]:
    with copied(engine_name, "migrated", tmp_path, request) as url:
        database = Database(url)
        yield World(database, plum)
        database.close()


def test_a_whole_lists_column_message_reference_hides_no_result_of_fuse(world: World) -> None:
    world.queue_list("fuse", f"destination,message_reference\n{ANN},m-1\n{BOB},m-2\n")
    world.post("fuse", batch="spring", phone_number=ANN, queued_timestamp="1772971100")
    assert (world.counts().received, world.counts().missing) == (1, 1)
    assert {call.metadata["message_reference"]: call.state for call in world.calls()} == {
        "m-1": CallState.RECEIVED,
        "m-2": CallState.WAITING,
    }


def test_a_whole_lists_column_message_reference_hides_no_result_of_insight(world: World) -> None:
    world.queue_list("insight", f"destination,message_reference\n{ANN},m-1\n{BOB},m-2\n")
    assert (world.counts(nameless=1).received, world.counts(nameless=1).missing) == (1, 1)


def test_a_batch_calls_a_number_once_whatever_references_its_rows_have(world: World) -> None:
    rows = f"destination,message_reference\n{ANN},m-1\n+{ANN},m-2\n{BOB},m-3\n"
    progress = world.queue_list("dev", rows)
    assert (progress.queued, progress.repeated) == (2, 1)
    assert world.plum.times_called(ANN) == 1
    assert world.queue_list("dev", rows).already_queued == 2


@pytest.mark.parametrize(
    ("rows", "batch"), [(f"{BOB},m-3\n{BOB[:-1]}9,m-1\n", "spring"), (f"{BOB},m-3\n{ANN},m-1\n", "summer")]
)
def test_a_reference_of_another_call_is_refused_before_anything_is_queued(
    world: World, rows: str, batch: str
) -> None:
    header = "destination,message_reference\n"
    world.queue_list("dev", f"{header}{ANN},m-1\n")
    with pytest.raises(InvalidRequest, match="message_reference m-1"):
        world.queue_list("dev", header + rows, batch)
    assert (len(world.plum.bodies), len(world.calls())) == (1, 1)


def test_one_call_is_refused_for_the_reference_of_another_number(world: World) -> None:
    world.queue(ANN, "r-1")
    assert not world.queue(f"+{ANN}", "r-1").is_new
    with pytest.raises(Contradicts, match="r-1"):
        world.queue(BOB, "r-1")
    assert len(world.plum.bodies) == 1


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_list_of_unknown_fate_stays_unknown_if_it_is_queued_in_the_other_way(
    world: World, *, one_by_one: bool
) -> None:
    rows = f"destination\n{ANN}\n"
    world.plum.status = 500
    with pytest.raises(FateUnknown):
        world.queue_list("fuse", rows, one_by_one=one_by_one)
    world.plum.status = 200
    other = world.queue_list("fuse", rows, one_by_one=not one_by_one)
    assert (other.queued, other.already_queued, other.unknown) == (0, 0, 1)
    other = world.queue_list("fuse", rows, one_by_one=not one_by_one, again=True)
    assert (other.queued, other.already_queued, other.unknown) == (1, 0, 0)
    for way in (True, False):
        assert world.queue_list("fuse", rows, one_by_one=way).already_queued == 1


def test_a_call_is_not_missing_because_its_list_takes_hours_to_queue(world: World) -> None:
    world.step = timedelta(hours=2)
    world.queue_list("fuse", f"destination\n{ANN}\n{BOB}\n", one_by_one=True)
    assert all(call.ends_at and call.ends_at >= call.registered_at for call in world.calls())


def test_a_window_that_began_long_ago_ends_no_earlier_than_now(world: World) -> None:
    world.queue(ANN, "r-1", start=NOON - timedelta(days=30))
    [call] = world.calls()
    assert call.ends_at == NOON


def test_a_call_whose_response_is_lost_can_be_named_if_its_reference_was_made_here(world: World) -> None:
    world.plum.status = 500
    with pytest.raises(FateUnknown) as caught:
        world.queue(ANN, None)
    [call] = world.calls()
    assert call.reference
    assert call.reference in str(caught.value)


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_store_that_goes_away_while_plum_queues_hides_no_queued_call(world: World, *, one_by_one: bool) -> None:
    def lose() -> None:
        with world.database.writing() as connection:
            connection.execute(text("ALTER TABLE expected_calls RENAME TO gone"))

    world.plum.before_answer = lose
    with pytest.raises(StoreError, match="Plum has queued .*call_id 1" if one_by_one else "Plum has queued 2"):
        world.queue_list("fuse", f"destination\n{ANN}\n{BOB}\n", one_by_one=one_by_one)
    assert len(world.plum.bodies) == 1


def test_a_store_that_goes_away_while_plum_queues_one_call_hides_neither_id_nor_reference(world: World) -> None:
    def lose() -> None:
        with world.database.writing() as connection:
            connection.execute(text("ALTER TABLE expected_calls RENAME TO gone"))

    world.plum.before_answer = lose
    with pytest.raises(StoreError, match=r"Plum has queued .*r-1.*call_id 1"):
        world.queue(ANN, "r-1")


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_list_that_is_queued_whole_and_one_by_one_at_a_time_calls_nobody_twice(
    world: World, *, one_by_one: bool
) -> None:
    rows = f"destination\n{ANN}\n{BOB}\n"

    def queue_too() -> None:
        world.plum.before_answer = lambda: None
        world.queue_list("fuse", rows, one_by_one=not one_by_one)

    world.plum.before_answer = queue_too
    world.queue_list("fuse", rows, one_by_one=one_by_one)
    assert (world.plum.times_called(ANN), world.plum.times_called(BOB)) == (1, 1)
    assert {call.phone_number: call.queued_at is not None for call in world.calls()} == {
        f"+{ANN}": True,
        f"+{BOB}": True,
    }
    assert len(world.calls()) == 2
