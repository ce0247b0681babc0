"""Keeping and forgetting: pruning, legal holds, erasure of a number, and a backup that is restored."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import skip_or_fail, wait_until
from tests.system.conftest import FORM, Installation, Sender, Service, dev_body
from tests.system.faults import metric

OTHER = "12125559876"


@pytest.fixture(scope="module")
def keeper(new_database_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that keeps nothing for ever, once its own first round of pruning is over: the next is in an hour."""
    made = Service(new_database_url(), tmp_path_factory.mktemp("keeper"), worker_count=1)
    made.settings |= {
        "PLUM_RETAIN_OUTCOMES_DAYS": "365",
        "PLUM_RETAIN_DELIVERIES_DAYS": "30",
        "PLUM_RETAIN_AUDIT_DAYS": "3650",
    }
    made.secrets.add(OTHER)
    made.prepare().start()
    try:
        wait_until(lambda: metric(made, "plum_prune_last_success_timestamp_seconds") > 0)
        yield made
    finally:
        made.stop()


def imported(store: Installation, integration: str, *ages: int) -> None:
    """A call of each age in days, by the log of another system."""
    lines = []
    for number, age in enumerate(ages):
        received_at = (datetime.now(UTC) - timedelta(days=age)).isoformat()
        body = dev_body(call_id=f"{integration}-{number}", last_attempt_timestamp=None).decode()
        lines.append(json.dumps({"integration": integration, "body": body, "received_at": received_at}))
    (store.directory / "old.ndjson").write_text("\n".join(lines))
    store.ok("import", "old.ndjson")


def wait_for_copy(service: Service) -> None:
    """The analytical copy answers; it is made anew where a number was erased."""
    wait_until(lambda: service.get("facets", fields="status").status == 200)


def test_prune_reports_then_removes_old_outcomes_from_lists_and_figures(keeper: Service) -> None:
    sender = keeper.sender("pruned")
    imported(keeper, "pruned", 400, 380, 40, 3)
    assert keeper.json("prune", "--dry-run")["outcomes"] == 2
    assert len(sender.outcomes()) == 4
    assert keeper.json("prune") == {"outcomes": 2, "expected-calls": 0, "deliveries": 3, "audit": 0}
    assert [one["call_id"] for one in sender.outcomes(sort="ended_at")] == ["pruned-2", "pruned-3"]
    figures = keeper.get("summary", integration="pruned").json()["data"]
    assert [row["count"] for row in figures] == [2]
    assert len(sender.deliveries()) == 1
    assert keeper.json("prune")["outcomes"] == 0


def test_held_records_are_neither_pruned_nor_erased(keeper: Service) -> None:
    sender = keeper.sender("held")
    imported(keeper, "held", 400)
    keeper.ok("hold", "add", "--integration", "held", "--reason", "case 4711")
    [hold] = keeper.json("hold", "list")
    assert (hold["kind"], hold["subject"], hold["reason"]) == ("integration", "held", "case 4711")
    keeper.ok("prune")
    assert len(sender.outcomes()) == 1
    refused = keeper.run("erase", "--phone", "+16175551234", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["held"] == 1
    assert "legal hold" in refused.stderr
    wait_for_copy(keeper)  # of the calls that were not held it was made anew
    assert len(sender.outcomes()) == 1
    keeper.ok("hold", "remove", "--integration", "held")
    keeper.ok("prune")
    assert sender.outcomes() == []
    keeper.assert_one_line("hold", "remove", "--integration", "held", says="nothing holds")
    keeper.assert_one_line("hold", "add", says="--integration NAME or --call ID")


def test_a_number_is_erased_everywhere_in_every_form(keeper: Service) -> None:
    sender = keeper.sender("erased")
    national = "617-555-1234"
    bodies = [
        (dev_body(call_id="e1"), FORM, {}),
        (json.dumps({"status": "completed", "phone_number": f"tel:({national}"}).encode(), "application/json", {}),
        (json.dumps({"status": "failed", "transferred": f"to {national}"}).encode(), "application/json", {}),
        (f"junk about %2B1%20{quote(national)}".encode(), "text/plain", {}),
        (gzip.compress(dev_body(call_id="e2")), FORM, {"Content-Encoding": "gzip"}),
        (dev_body(call_id="e3", phone_number=OTHER), FORM, {"Referer": f"http://x/?to={quote('+1617 555 1234')}"}),
    ]
    for body, content_type, headers in bodies:
        sender.post(body, content_type, **headers).assert_completed()
    kept = [sender.post(dev_body(call_id="k1", phone_number=OTHER)), sender.post(b"other junk", "text/plain")]
    keeper.request("POST", f"/start/{sender.key}", dev_body(call_id="e1"), {"Content-Type": FORM})
    keeper.ok("plum", "do-not-call", "add", "+16175551234")
    dry = keeper.json("erase", "--phone", "(617) 555-1234", "--dry-run")
    assert len(sender.deliveries()) == len(bodies) + len(kept) + 1
    receipt = keeper.json("erase", "--phone", "(617) 555-1234")
    assert dry["outcomes"] == receipt["outcomes"] == 5
    assert receipt["deliveries"] == len(bodies) + 1
    assert any("do-not-call" in line for line in receipt["left"])
    assert {one["id"] for one in sender.deliveries()} == {answer.headers["X-Delivery-Id"] for answer in kept}
    wait_for_copy(keeper)
    assert [one["call_id"] for one in sender.outcomes()] == ["k1"]
    keeper.ok("plum", "do-not-call", "remove", "+16175551234")
    assert "617555" not in keeper.everything_stored()
    assert keeper.json("erase", "--phone", "+16175551234")["outcomes"] == 0


def test_nothing_of_an_erased_number_is_left_in_the_files_beside_the_store(keeper: Service) -> None:
    sender = keeper.sender("file")
    sender.post(dev_body(call_id="f1", extra=f"remember {OTHER}")).assert_completed()
    wait_for_copy(keeper)
    keeper.ok("erase", "--phone", f"+{OTHER}")
    wait_for_copy(keeper)
    directories = [keeper.directory]
    if keeper.database_url.startswith("sqlite"):
        directories.append(Path(keeper.database_url.removeprefix("sqlite:///")).parent)
    files = [file for directory in directories for file in directory.rglob("*") if file.is_file()]
    assert len(files) > 3
    assert [file for file in files if OTHER[1:].encode() in file.read_bytes()] == []


def test_an_invalid_number_is_not_erased(keeper: Service) -> None:
    keeper.assert_one_line("erase", "--phone", "5551234", says="no full phone number")


def test_retention_shows_in_the_metrics(keeper: Service) -> None:
    lines = keeper.request("GET", "/metrics").body.decode().splitlines()
    told = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}
    assert told['plum_housekeeping_runs_total{chore="prune"}'] == 1
    assert told['plum_housekeeping_failures_total{chore="prune"}'] == 0
    assert told["plum_prune_last_success_timestamp_seconds"] > 1_700_000_000


# --- backup


@pytest.fixture
def restored(new_database_url: Callable[[], str], tmp_path: Path) -> Callable[[Path], Service]:
    """Restores a backup by the steps of the operations document, and starts a service on it."""

    def restore(backup: Path) -> Service:
        made = Service(new_database_url(), tmp_path)
        if made.database_url.startswith("sqlite"):
            shutil.copy(backup, made.database_url.removeprefix("sqlite:///"))
        else:
            to = made.database_url.replace("+psycopg", "")
            subprocess.run(["pg_restore", "--no-owner", f"--dbname={to}", backup], check=True, timeout=60)
        made.ok("migrate")
        return made

    return restore


@pytest.fixture
def _dumps(engine_name: str) -> None:
    if engine_name == "postgresql" and not (shutil.which("pg_dump") and shutil.which("pg_restore")):
        skip_or_fail("pg_dump is missing; apt-get install postgresql-client")


@pytest.mark.usefixtures("_dumps")
def test_a_backup_taken_while_callbacks_come_holds_what_was_acknowledged_before_it_and_serves(
    keeper: Service, restored: Callable[[Path], Service], tmp_path: Path
) -> None:
    sender = keeper.sender("backed-up")
    before = [post(sender, number) for number in range(50)]
    stop, during = threading.Event(), []

    def posting() -> None:
        while not stop.is_set():
            during.append(post(sender, 50 + len(during)))

    thread = threading.Thread(target=posting)
    thread.start()
    try:
        keeper.ok("backup", str(tmp_path / "copy"))
    finally:
        stop.set()
        thread.join()
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    keeper.assert_one_line("backup", str(tmp_path / "copy"), says="is there already")
    rows = {one["id"]: one for one in sender.deliveries()}
    outcomes = {one["id"]: one for one in sender.outcomes()}
    assert rows.keys() == {*before, *during}

    other = restored(tmp_path / "copy")
    other.token = keeper.token
    other.start()
    try:
        again = Sender(other, "backed-up", sender.key, sender.result_url)
        found = again.deliveries()
        assert {*before} <= {one["id"] for one in found} <= rows.keys()
        assert found == [rows[one["id"]] for one in found]
        copied = again.outcomes()
        assert copied == [outcomes[one["id"]] for one in copied]
        assert len(copied) == len(found)
        wait_for_copy(other)
        assert other.get("outcomes", count="exact", limit=1, integration="backed-up").json()["count"]["value"] == len(
            found
        )
        assert again.body_of(before[0]) == sender.body_of(before[0])
        assert post(again, 10_000) not in rows
    finally:
        other.stop()


def post(sender: Sender, number: int) -> str:
    answer = sender.post(dev_body(call_id=f"b{number}")).assert_completed()
    return str(answer.headers["X-Delivery-Id"])


def test_a_backup_works_with_any_characters_in_its_path(tmp_path: Path) -> None:
    directory = tmp_path / "a#b%41?c d"
    directory.mkdir()
    store = Installation("sqlite:///o.db", directory)
    store.ok("migrate")
    store.ok("integration", "add", "mine")
    store.ok("backup", "copy.db")
    restored = Installation("sqlite:///copy.db", directory)
    assert [one["name"] for one in restored.json("integration", "list")] == ["mine"]


def test_a_backup_that_cannot_be_written_is_one_line(keeper: Service) -> None:
    keeper.assert_one_line("backup", "/nowhere/copy", says="/nowhere/copy.*cannot be used: No such file")
