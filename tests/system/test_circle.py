"""The whole circle against a Plum of loopback: queue, lose some results, know what is missing, fetch it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.conftest import wait_until
from tests.system import faults
from tests.system.conftest import PROGRAM, Sender, Service, together

ENGINE = "postgresql"

CALLS = 80


@dataclass
class Plum:
    """`simulate --platform` in a process of its own."""

    settings: dict[str, str]

    def truth(self) -> list[dict[str, Any]]:
        base = self.settings["PLUM_DEV_URL"].removesuffix("/dev")
        with urlopen(f"{base}/truth") as answer:
            return [json.loads(line) for line in answer]

    def calls_of(self, sender: Sender) -> dict[str, dict[str, Any]]:
        return {call["call_id"]: call for call in self.truth() if call["result_url"].startswith(sender.result_url)}

    def ended(self, sender: Sender, count: int) -> dict[str, dict[str, Any]]:
        """The sender's calls, once all have ended and were posted or lost."""

        def are_over() -> bool:
            calls = self.calls_of(sender).values()
            return len(calls) == count and all(call["is_final"] and (call["lost"] or call["posts"]) for call in calls)

        wait_until(are_over, 60)
        return self.calls_of(sender)


@pytest.fixture(scope="session")
def plum() -> Iterator[Plum]:
    """Loses a tenth of its callbacks, doubles some and delays others; a day passes in some seconds."""
    options = ["--bind", "127.0.0.1:0", "--speed", "7200", "--seed", "7", "--json"]
    faulty = ["--lose", "0.1", "--double", "0.05", "--late", "0.05"]
    command = [str(PROGRAM), "simulate", "--platform", *options, *faulty]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        told = json.loads(process.stdout.readline())
        yield Plum({name: value for name, value in told.items() if name.startswith("PLUM_")})
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="session")
def dialling(plum: Plum, new_database_url, tmp_path_factory) -> Iterator[Service]:
    made = Service(new_database_url(), tmp_path_factory.mktemp("dialling"), dict(plum.settings), worker_count=1)
    made.prepare().start()
    made.token = made.admin_token
    try:
        yield made
    finally:
        made.stop()


def contact_list(file: Path, first: int, count: int) -> str:
    with file.open("w", newline="") as text:
        rows = csv.writer(text)
        rows.writerow(["destination", "name"])
        rows.writerows([f"1617555{number:04d}", f"number {number}"] for number in range(first, first + count))
    return str(file)


def queue(service: Service, sender: Sender, file: str, *options: str) -> dict[str, Any]:
    to = [] if sender.name.startswith("dev") else ["--to", "12/34"]
    return service.json("plum", "bulk-queue", sender.name, file, *to, "--key", sender.key, *options)


def expected_calls(service: Service, sender: Sender, **filters: str) -> list[dict[str, Any]]:
    return service.records("expected-calls", integration=sender.name, **filters)


def counts(service: Service, sender: Sender) -> dict[str, int]:
    [found] = service.json("missing", f"integration={sender.name}", "--grace", "0s")
    return found


@pytest.mark.parametrize(("product", "first"), [("insight", 0), ("fuse", 200)])
def test_after_reconciling_nothing_is_missing_and_all_is_as_plum_says(
    dialling: Service, plum: Plum, tmp_path: Path, product: str, first: int
) -> None:
    sender = dialling.sender(f"{product}-circle", product)
    file = contact_list(tmp_path / "list.csv", first, CALLS)
    options = ("--batch", "spring", "--one-by-one", "--per-second", "200")
    assert queue(dialling, sender, file, *options)["queued"] == CALLS
    assert queue(dialling, sender, file, *options)["already_queued"] == CALLS
    calls = plum.ended(sender, CALLS)
    lost = {key for key, call in calls.items() if call["lost"]}
    assert lost
    assert counts(dialling, sender)["missing"] == len(lost)
    os.kill(faults.beside(dialling, "housekeeping"), signal.SIGKILL)
    assert dialling.json("reconcile", f"integration={sender.name}", "--grace", "0s") == {"polled": len(lost)}
    after = counts(dialling, sender)
    assert (after["expected"], after["received"], after["polled"], after["missing"]) == (CALLS, CALLS, len(lost), 0)
    outcomes = {outcome["call_id"]: outcome for outcome in sender.outcomes(limit=1000)}
    assert {key: outcome["status"] for key, outcome in outcomes.items()} == {
        key: call["status"] for key, call in calls.items()
    }
    assert all(outcomes[key]["phone_number"] == f"+{call['phone_number']}" for key, call in calls.items())
    assert {outcome["metadata"]["name"] for outcome in outcomes.values()} == {
        f"number {number}" for number in range(first, first + CALLS)
    }
    polled = dialling.records("deliveries", integration=sender.name, via="poll")
    assert len(polled) == len(lost)


def test_devs_contact_list_is_known_by_its_references(dialling: Service, plum: Plum, tmp_path: Path) -> None:
    sender = dialling.sender("dev-circle", "dev")
    assert queue(dialling, sender, contact_list(tmp_path / "list.csv", 400, 30), "--batch", "spring")["queued"] == 30
    lost = sum(call["lost"] for call in plum.ended(sender, 30).values())
    wait_until(lambda: len(expected_calls(dialling, sender, state="received")) == 30 - lost, 30)
    assert counts(dialling, sender)["missing"] == lost
    assert dialling.json("reconcile", f"integration={sender.name}", "--grace", "0s") == {"not_asked": lost}


def test_a_batch_whose_results_name_no_call_is_counted(dialling: Service, plum: Plum, tmp_path: Path) -> None:
    sender = dialling.sender("insight-batch", "insight")
    assert queue(dialling, sender, contact_list(tmp_path / "list.csv", 500, 30), "--batch", "spring")["queued"] == 30
    # Insight's callback that comes twice cannot be told from those of two calls.
    come = min(30, sum(sum(call["posts"].values()) for call in plum.ended(sender, 30).values()))
    wait_until(lambda: len(sender.outcomes()) == come, 30)
    found = counts(dialling, sender)
    assert (found["received"], found["missing"]) == (come, 30 - come)


def test_a_url_that_does_not_answer_is_refused_by_plum_and_nothing_is_expected(dialling: Service) -> None:
    sender = dialling.sender("refused", "insight")
    settings = dict(dialling.settings)
    try:
        dialling.settings["PLUM_PUBLIC_URL"] = "http://127.0.0.1:9"
        dialling.assert_one_line(
            "plum", "queue", sender.name, "16175551234", "--to", "12/34", "--key", sender.key,
            says="did not answer 200 to GET", hides=sender.key,
        )  # fmt: skip
    finally:
        dialling.settings = settings
    assert expected_calls(dialling, sender) == []


@pytest.fixture(scope="module")
def refused(dialling: Service) -> Sender:
    return dialling.sender("line", "insight")


@pytest.mark.parametrize(
    ("to", "says"),
    [("404/1", "404"), ("403/1", "403"), ("409/1", "409"), ("12", "SURVEY/INSTANCE"), ("500/1", "may be queued")],
)
def test_plums_refusals_are_reported_in_one_line(dialling: Service, refused: Sender, to: str, says: str) -> None:
    told = ("plum", "queue", refused.name, "16175551234", "--to", to, "--key", refused.key, "--reference", to)
    dialling.assert_one_line(*told, says=says, hides="loopback-developer-key")
    if to == "500/1":  # its fate is unknown: never again unasked
        dialling.assert_one_line(*told, says="--again")
    assert len(expected_calls(dialling, refused, reference=to)) == (to == "500/1")


def test_a_call_is_shown_as_plum_reports_it_and_nothing_is_stored(dialling: Service, plum: Plum) -> None:
    sender = dialling.sender("status", "fuse")
    made = dialling.json(
        "plum", "queue", sender.name, "16175559876", "--to", "12/34", "--key", sender.key, "--reference", "r-1"
    )  # fmt: skip
    plum.ended(sender, 1)
    record = dialling.json("plum", "status", sender.name, made["call_id"], "--reveal")
    assert (record["call_id"], record["phone_number"]) == (made["call_id"], "+16175559876")
    assert dialling.records("deliveries", integration=sender.name, via="poll") == []
    dialling.assert_one_line("plum", "status", sender.name, "404", says="404")
    masked = dialling.json("plum", "status", sender.name, made["call_id"])
    assert masked["phone_number"] == "+1617•••9876"


def test_redial_reports_the_numbers_and_why_others_are_left_out(dialling: Service, plum: Plum) -> None:
    sender = dialling.sender("dev-redial", "dev")
    fields = {"result": "Failed", "callee_type": "busy", "attempts": "2"}
    for number, changes in enumerate([{}, {}, {}, {"attempts": "5"}, {}]):
        body = fields | {"call_id": str(number), "phone_number": f"1617444000{number}"} | changes
        body["last_attempt_timestamp"] = "Mon, 19 Jul 2004 13:46:03 -0400"
        sender.assert_accepted("&".join(f"{name}={value}" for name, value in body.items()).encode())
    reached = {"result": "Completed", "callee_type": "voice", "call_id": "9", "phone_number": "16174440001"}
    sender.assert_accepted("&".join(f"{name}={value}" for name, value in reached.items()).encode())
    assert dialling.json("plum", "do-not-call", "add", "6174440002") == {"added": 1}
    assert dialling.json("plum", "do-not-call", "add", "+16174440002") == {"added": 0}
    which = ("--from", f"integration={sender.name} disposition=busy", "--most-attempts", "5")
    told = ("plum", "bulk-queue", sender.name, *which, "--batch", "again")
    left_out = {"already_reached": 1, "attempts_used_up": 1, "do_not_call": 1}
    assert dialling.json(*told, "--dry-run") == {"numbers": 2} | left_out
    assert expected_calls(dialling, sender) == []
    made = dialling.json(*told, "--key", sender.key)
    assert Counter(made) == Counter({"batch": "again", "queued": 2, "numbers": 2} | left_out | dict.fromkeys(
        ("already_queued", "repeated", "unknown"), 0
    ))  # fmt: skip
    redial = dialling.get("redial.csv", integration=sender.name, disposition="busy").body.decode().split()
    assert redial[0] == "destination"
    assert "+16174440002" not in redial
    assert len(redial) == 5
    [kept] = dialling.json("plum", "do-not-call", "list")
    assert kept["phone_number"] == "+16174440002"
    assert dialling.json("plum", "do-not-call", "remove", "6174440002") == {"removed": 1}


def test_a_killed_command_continues_where_it_stopped(dialling: Service, plum: Plum, tmp_path: Path) -> None:
    sender = dialling.sender("killed", "fuse")
    file = contact_list(tmp_path / "list.csv", 700, 60)
    options = ["--to", "12/34", "--key", sender.key, "--batch", "spring", "--one-by-one"]
    command = [str(PROGRAM), "plum", "bulk-queue", sender.name, file, *options, "--per-second", "20"]
    process = subprocess.Popen(command, env=dialling.environment(), cwd=dialling.directory)
    queued = lambda: sum(one["queued_at"] is not None for one in expected_calls(dialling, sender))  # noqa: E731
    wait_until(lambda: queued() > 5, 30)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = queued()
    again = dialling.run(*command[1:], "--json")
    counts = json.loads(again.stdout)
    assert (counts["already_queued"], counts["queued"] + counts["unknown"]) == (done, 60 - done)
    assert counts["unknown"] <= 1
    assert again.returncode == counts["unknown"]
    assert set(Counter(call["phone_number"] for call in plum.calls_of(sender).values()).values()) == {1}


def test_a_call_is_queued_once_however_many_queue_it_at_a_time(dialling: Service, plum: Plum) -> None:
    sender = dialling.sender("at-once", "insight")
    told = ("plum", "queue", sender.name, "16175551234", "--to", "12/34", "--key", sender.key, "--reference", "r-1")
    done = together(4, lambda _: dialling.run(*told, "--end", "2099-01-01"))
    assert len(plum.calls_of(sender)) == 1
    assert sorted({one.returncode for one in done}) in ([0], [0, 1])
    assert all("r-1" in one.stdout + one.stderr for one in done)


def test_a_list_is_queued_once_whole_or_one_by_one(dialling: Service, plum: Plum, tmp_path: Path) -> None:
    sender = dialling.sender("both-ways", "insight")
    file = contact_list(tmp_path / "list.csv", 800, 10)
    assert queue(dialling, sender, file, "--batch", "spring", "--one-by-one", "--per-second", "200")["queued"] == 10
    again = queue(dialling, sender, file, "--batch", "spring")
    assert (again["queued"], again["already_queued"]) == (0, 10)
    assert len(plum.calls_of(sender)) == 10


def test_a_list_with_a_wrong_row_queues_nothing(dialling: Service, plum: Plum, tmp_path: Path) -> None:
    sender = dialling.sender("wrong-row", "dev")
    file = tmp_path / "list.csv"
    rows = {
        "16175550001\nabc\n": "row 2: destination",
        "16175550001,a,b\n": "row 1",
        "16175550001,m-1\n16175550002,m-1\n": "message_reference m-1",
        "": "at least one row",
    }
    for text, says in rows.items():
        file.write_text(f"destination,message_reference\n{text}")
        dialling.assert_one_line(
            "plum", "bulk-queue", sender.name, str(file), "--batch", "b", "--key", sender.key, says=says
        )
    file.write_text("phone\n16175550001\n")
    dialling.assert_one_line(
        "plum", "bulk-queue", sender.name, str(file), "--batch", "b", "--key", sender.key, says="destination"
    )
    assert plum.calls_of(sender) == {}
    assert expected_calls(dialling, sender) == []


@pytest.fixture(scope="module")
def told_before(dialling: Service) -> Sender:
    made = dialling.sender("told-before", "insight")
    dialling.settings["PLUM_RESULT_KEY"] = made.key
    return made


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--reference", ""), "1 to 255 characters"),
        (("--reference", "x" * 256), "1 to 255 characters"),
        (("--metadata", "a"), "NAME=VALUE"),
        (("--max-attempts", "11"), "max_attempts"),
        (("--end", "2020-01-01"), "window"),
    ],
)
def test_an_invalid_request_is_reported_before_it_is_sent(
    dialling: Service, told_before: Sender, options: tuple[str, ...], says: str
) -> None:
    told = ("plum", "queue", told_before.name, "16175551234", "--to", "12/34")
    dialling.assert_one_line(*told, *options, says=says)
    assert expected_calls(dialling, told_before) == []


@pytest.mark.parametrize("filters", ["", "status='", "colour=red"])
def test_redial_takes_its_numbers_from_a_filter(dialling: Service, filters: str) -> None:
    dialling.assert_one_line("plum", "bulk-queue", "any", "--batch", "b", "--from", filters, "--dry-run", says=".")


def test_redial_reads_filters_as_the_other_commands_do(dialling: Service) -> None:
    sender = dialling.sender("redial-filters", "dev")
    for number, batch in enumerate(["a+b", "50%25%20off"]):
        body = f"result=Failed&callee_type=busy&attempts=1&call_id={number}&phone_number=1617333000{number}"
        sender.assert_accepted(body.encode(), below=f"/batch/{batch}")
    for filters, count in {
        "batch=a+b": 1,
        "batch__not=a+b": 1,
        "'batch=50% off'": 1,
        "batch=a%2Bb": 0,
        "batch=a+b&status=failed": 1,
    }.items():
        asked = f"integration={sender.name} {filters}"
        told = dialling.json("plum", "bulk-queue", sender.name, "--batch", "b", "--from", asked, "--dry-run")
        assert (filters, told["numbers"]) == (filters, count)


def test_a_number_that_must_not_be_called_any_more_is_left_out_of_a_redial_that_runs(
    dialling: Service, plum: Plum
) -> None:
    sender = dialling.sender("redial-runs", "dev")
    for number in range(6):
        body = f"result=Failed&callee_type=busy&attempts=1&call_id={number}&phone_number=1617222000{number}"
        sender.assert_accepted(body.encode())
    options = ["--batch", "again", "--from", f"integration={sender.name}", "--key", sender.key]
    command = [
        str(PROGRAM),
        "plum",
        "bulk-queue",
        sender.name,
        *options,
        "--one-by-one",
        "--per-second",
        "0.5",
        "--json",
    ]
    with subprocess.Popen(
        command, env=dialling.environment(), cwd=dialling.directory, stdout=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: expected_calls(dialling, sender), 30)
        dialling.ok("plum", "do-not-call", "add", "+16172220005")
        told = json.loads(process.communicate(timeout=60)[0])
    assert "+16172220005" not in {call["phone_number"] for call in plum.calls_of(sender).values()}
    assert (told["queued"], told["do_not_call"]) == (5, 1)
    assert "+16172220005" not in {call["phone_number"] for call in expected_calls(dialling, sender)}


@pytest.mark.parametrize("number", ["", " ", "call me"])
def test_what_is_no_number_is_not_taken_for_one_that_must_not_be_called(dialling: Service, number: str) -> None:
    dialling.assert_one_line("plum", "do-not-call", "add", number, says="no full phone number")
