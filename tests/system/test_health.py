"""What the operator sees: health, and metrics that are right over all workers."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.conftest import skip_or_fail, wait_until
from tests.system.conftest import PHONE, ROOT, Sender, Service, dev_body, together

SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")

POSTS = [  # body, how often, its verdict
    (dev_body(call_id="busy", result="Failed", callee_type="busy"), 30),
    (dev_body(call_id="human", attempts="2"), 10),
    (dev_body(call_id="human", attempts="1"), 10),
    (b"hello=world", 20),
    (b'{"status":"canceled"}', 10),
]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that has counted nothing yet."""
    directory = tmp_path_factory.mktemp("fresh")
    service = Service(f"sqlite:///{directory / 'outcomes.db'}", directory).prepare()
    service.start()
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def posted(fresh: Service) -> Sender:
    """80 posts through both workers, each over a connection of its own; and a few that are not counted."""
    sender = fresh.one
    bodies = [body for body, times in POSTS for _ in range(times)]
    for first in range(0, len(bodies), 16):
        together(16, lambda n, first=first: sender.post(bodies[first + n]).assert_completed())
    for answer in fresh.through_each_worker("POST", sender.path, dev_body(call_id="each")):
        answer.assert_completed()
    for path in (sender.path, f"{sender.path}/call/{PHONE}", "/result/nonsense"):
        fresh.through_each_worker("GET", path)
    fresh.through_each_worker("POST", "/result/nonsense", dev_body())
    return sender


def samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    for line in text.splitlines():
        if not line.startswith("#"):
            match = SAMPLE.match(line)
            assert match, line
            labels = tuple(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match["labels"] or ""))
            found[match["name"]][labels] = float(match["value"])
    return found


def test_every_worker_counts_the_deliveries_of_all_by_verdict(fresh: Service, posted: Sender) -> None:
    for answer in fresh.through_each_worker("GET", "/metrics") * 2:
        assert answer.headers["Content-Type"].startswith("text/plain")
        found = samples(answer.body.decode())
        assert {(dict(of)["integration"], dict(of)["product"]) for of in found["plum_deliveries_total"]} == {
            ("one", "auto")
        }
        counted = {dict(labels)["verdict"]: n for labels, n in found["plum_deliveries_total"].items()}
        assert (
            time.time() - 600 < found["plum_last_delivery_timestamp_seconds"][("integration", "one"),] < time.time()
        )
        assert sum(counted.values()) == 82
        assert counted["quarantined"] == 20
        for verdict in ("applied", "duplicate", "superseded", "quarantined"):
            assert counted.get(verdict, 0) == len(posted.deliveries(verdict=verdict))


def test_outcomes_are_counted_by_product_disposition_and_callee_type(fresh: Service, posted: Sender) -> None:
    for answer in fresh.through_each_worker("GET", "/metrics"):
        found = samples(answer.body.decode())
        counts = {tuple(dict(labels).values()): n for labels, n in found["plum_outcomes_total"].items()}
        assert {what: n for what, n in counts.items() if n} == {
            ("busy", "busy", "dev"): 1,
            ("voice", "answered", "dev"): 2,
            ("none", "canceled", "insight"): 10,
        }
    assert len(posted.outcomes()) == 13


def test_acknowledgements_are_timed_each_once(fresh: Service, posted: Sender) -> None:
    for answer in fresh.through_each_worker("GET", "/metrics"):
        found = samples(answer.body.decode())
        assert found["plum_ack_seconds_count"] == {(): len(posted.deliveries())}
        assert found["plum_ack_seconds_bucket"][(("le", "+Inf"),)] == len(posted.deliveries())
        assert found["plum_ack_seconds_sum"][()] > 0


def test_quarantined_deliveries_are_counted_by_our_words(fresh: Service, posted: Sender) -> None:
    odd = {"call_id": "odd", "result": "Gone fishing", "callee_type": "parrot", "attempts": "many", "duration": "90"}
    for answer in fresh.through_each_worker("POST", posted.path, dev_body(**odd)):
        answer.assert_completed()
    events = b'{"status":"completed","events":[{"event":"sneezed","timestamp":"soon"}],"phone_number":"1"}'
    posted.assert_accepted(events, "application/json")
    found = samples(fresh.request("GET", "/metrics").body.decode())
    assert found["plum_unknown_words_total"] == {
        (("field", "callee_type"),): 2,
        (("field", "event"),): 1,
        (("field", "status"),): 2,
    }
    problems = {dict(labels)["field"]: n for labels, n in found["plum_problems_total"].items() if n}
    assert problems == {"attempts": 2, "events[].timestamp": 1, "phone_number": 1}
    assert found["plum_quarantined_total"][("reason", "no_known_field"),] == 20
    with fresh.sql() as connection:
        connection.execute("DELETE FROM outcomes WHERE call_id = 'odd'")


def test_every_series_that_can_be_known_begins_at_0(fresh: Service, posted: Sender) -> None:
    fresh.sender("silent", "fuse")

    def found() -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        return samples(fresh.request("GET", "/metrics").body.decode())

    wait_until(lambda: 'integration="silent"' in fresh.request("GET", "/metrics").body.decode(), 10)
    silent = {
        labels: n for labels, n in found()["plum_deliveries_total"].items() if ("integration", "silent") in labels
    }
    assert {dict(labels)["verdict"] for labels in silent} == {
        "applied", "duplicate", "superseded", "quarantined", "started", "spooled",
    }  # fmt: skip
    assert set(silent.values()) == {0}
    assert {("product", "fuse") in labels for labels in silent} == {True}
    told = (ROOT / "docs" / "operations.md").read_text()
    reasons = {dict(labels)["reason"] for labels in found()["plum_refused_total"]}
    assert len(reasons) == 17
    assert {reason for reason in reasons if reason not in told} == set()
    assert found()["plum_reconciled_calls_total"]
    assert found()["plum_expected_calls"][("state", "waiting"),] == 0


def test_connections_and_disks_are_measured_for_all_workers(fresh: Service, posted: Sender) -> None:
    for answer in fresh.through_each_worker("GET", "/metrics"):
        found = samples(answer.body.decode())
        assert found["plum_store_connections_limit"][("pool", "deliveries"),] == 4
        assert found["plum_store_connections"][("pool", "deliveries"),] == 0
        assert min(found["plum_disk_free_bytes"][("holds", disk),] for disk in ("spool", "store")) > 0
        assert [dict(labels)["version"] for labels in found["plum_build_info"]] != [""]
        assert 0 < found["plum_metrics_memory_ratio"][()] < 0.1


def test_metrics_are_plums_own_and_name_nothing_that_a_sender_chooses(fresh: Service, posted: Sender) -> None:
    text = fresh.request("GET", "/metrics").body.decode()
    names = set(samples(text))
    assert {"plum_deliveries_total", "plum_ack_seconds_count"} <= names
    assert all(name.startswith("plum_") for name in names)
    for chosen in (PHONE, PHONE[1:], posted.key, "/result", "nonsense", "hello", "human"):
        assert chosen not in text


def test_promtool_finds_no_fault_with_the_metrics(fresh: Service, posted: Sender) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        skip_or_fail("promtool is not here; install it: apt-get install prometheus")
    text = fresh.request("GET", "/metrics").body
    assert b"plum_deliveries_total" in text
    done = subprocess.run([str(promtool), "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_counts_survive_a_worker_that_dies_and_it_is_replaced(fresh: Service, posted: Sender) -> None:
    killed, other = fresh.workers()
    subprocess.run(["kill", "-KILL", str(killed)], check=True)
    fresh.wait_for_workers(2, without=killed)
    for answer in fresh.through_each_worker("GET", "/metrics"):
        assert sum(samples(answer.body.decode())["plum_deliveries_total"].values()) == len(posted.deliveries())
    assert other in fresh.workers()


def test_livez_and_readyz_answer_without_a_token(fresh: Service) -> None:
    for path in ("/livez", "/readyz"):
        for answer in fresh.through_each_worker("GET", path):
            assert answer.status == 200
            assert answer.headers["Content-Type"].split(";")[0] == "text/plain"
    assert "store" in fresh.request("GET", "/readyz").body.decode()


def test_readyz_names_a_wrong_schema_while_the_spool_still_takes_deliveries(fresh: Service) -> None:
    healthy = fresh.request("GET", "/readyz").body
    with fresh.sql() as connection:
        connection.execute("ALTER TABLE alembic_version RENAME TO away")
    try:
        wait_until(lambda: fresh.request("GET", "/readyz").body != healthy)
        ready = fresh.request("GET", "/readyz")
        assert (fresh.request("GET", "/livez").status, ready.status) == (200, 200)
        assert "plum-outcomes migrate" in ready.body.decode()
    finally:
        with fresh.sql() as connection:
            connection.execute("ALTER TABLE away RENAME TO alembic_version")
    wait_until(lambda: fresh.request("GET", "/readyz").body == healthy)
