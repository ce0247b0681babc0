"""What needs a person is told, by what is there; and what the page offers to do about it is done."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from app.assembly import recorder
from app.config import from_environment
from app.factory import create_app
from app.identity import new_id
from app.intake.spool import Spool
from app.model import Delivery, Product, Scope
from app.store import integrations, migrating, quarantine
from app.store.database import Database
from app.store.schema import deliveries, expected_calls
from app.web.pages.attention import EXAMPLES
from app.web.pages.attention_checks import AttentionChecks
from app.web.pages.explanations import REASONS
from tests.conftest import wait_until
from tests.web.conftest import running
from tests.web.pages import Reader, section
from tests.web.test_auditing import entries

HOSTILE = "<script>document.title='taken'</script>\u202e" + "x" * 10_000
RESULT = "phone_number=16175551234&call_id={}&result={}&callee_type=voice"
NOT_AT_ALL = timedelta(0)
UNREADABLE = {"nothing=known": 4, " \n ": 2, '{"broken': 1}


class Desk:
    """A running service, whose integration `steady` posts now and others have posted at other times."""

    def __init__(self, app: Flask, database: Database) -> None:
        self.app, self.database = app, database
        self.settings = app.extensions["plum"].settings
        self.key = integrations.add_integration(database, "steady", Product.DEV, datetime.now(UTC))
        self.admin = Reader(app, database, Scope.ADMIN)
        self.reader = Reader(app, database, Scope.READ)

    def post(self, body: str) -> None:
        kind = "application/json" if body.startswith("{") else "application/x-www-form-urlencoded"
        assert self.app.test_client().post(f"/result/{self.key}", data=body, content_type=kind).data == b"completed"

    def repeated(self, integration: str) -> None:
        """A result of its own that came before comes once more, now."""
        at = datetime.now(UTC)
        with self.database.reading() as connection:
            of_integration = deliveries.c.integration == integration
            body = connection.execute(select(deliveries.c.body).where(of_integration).limit(1)).scalar_one()
        recorder(self.database, self.settings)([Delivery(new_id(at), integration, at, body, Product.DEV)])

    def received(self, integration: str, *ago: timedelta, late: timedelta = NOT_AT_ALL) -> None:
        """Results of an integration that came so long ago, and so long after their calls had ended."""
        integrations.add_integration(self.database, integration, Product.DEV, datetime.now(UTC))
        for number, one in enumerate(ago):
            at = datetime.now(UTC) - one
            ended = f"{at - late:%a, %d %b %Y %H:%M:%S} -0000"
            body = RESULT.format(number, "Completed") + f"&last_attempt_timestamp={ended}"
            delivery = Delivery(new_id(at), integration, at, body.encode(), Product.DEV)
            recorder(self.database, self.settings)([delivery])


def soon(reader: Reader, name: str, text: str) -> str:
    """This section once it tells the text: what takes longer than a page may is found beside it."""
    told = [""]

    def is_told() -> bool:
        told[0] = section(reader.open("/attention"), name)
        return re.search(text, told[0]) is not None

    wait_until(is_told, 20)
    return told[0]


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Iterator[Desk]:
    directory = tmp_path_factory.mktemp("attention")
    url = f"sqlite:///{directory / 'outcomes.db'}"
    database = Database(url)
    migrating.migrate(database)
    with running(from_environment({"PLUM_DATABASE_URL": url, "PLUM_SPOOL_DIR": str(directory / "spool")})) as app:
        made = Desk(app, database)
        days = [timedelta(days=day, hours=1) for day in range(13)]
        made.received("stopped", *days[2:])
        made.received("weekdays", *days[2:5], *days[9:])
        made.received("never")
        made.received("once", days[3])
        made.received("repeating", *days[2:])
        made.repeated("repeating")
        made.received("behind", *days, late=timedelta(days=3))
        for body, times in UNREADABLE.items():
            for _ in range(times):
                made.post(body)
        for _ in range(2):
            made.post(RESULT.format(1, HOSTILE))
        made.post(RESULT.format(2, "6175551234"))
        yield made
    database.close()


def test_quarantined_deliveries_are_grouped_by_reason_with_the_newest(desk) -> None:
    with desk.database.reading() as connection:
        rows = connection.execute(deliveries.select().order_by(deliveries.c.received_at.desc())).mappings().all()
    quarantined = [row for row in rows if row["verdict"] == "quarantined"]
    counts = Counter(row["reason"] for row in quarantined)
    assert counts == {"no_known_field": 4, "empty": 2, "not_json": 1}
    soon(desk.reader, "drift", "Unknown word status")
    page = desk.reader.open("/attention")
    told = section(page, "not-understood")
    for reason, count in counts.items():
        assert f"{REASONS[reason]} {reason} {count} " in told
        newest = [str(row["id"]) for row in quarantined if row["reason"] == reason][:EXAMPLES]
        assert [one for one in re.findall(r'/deliveries/([\w-]+)"', page) if one in newest] == newest
    assert page.count('href="/deliveries/') == sum(min(count, EXAMPLES) for count in counts.values()) + 2  # of drift


def test_drift_is_shown_as_text_and_masked(desk) -> None:
    soon(desk.admin, "drift", re.escape("Unknown word status <script>document.title='taken'</script>"))
    page = desk.admin.open("/attention")
    assert "<script>document" not in page
    assert "Unknown word status •••1234" in section(page, "drift")
    assert "6175551234" not in page


def test_an_integration_is_silent_when_it_pauses_for_longer_than_ever(desk) -> None:
    """Not at a weekend, where it did the same before; nor one that has never sent, or on one day alone, nor whose
    results come late or again."""
    told = soon(desk.reader, "silent", r" stopped \d+ \w+ \d{4} [\d:]+ (2 d|1 d 23 h|2 d 1 h)[ \d\w]* 1 d ")
    for other in ("steady", "weekdays", "never", "once", "repeating", "behind"):
        assert f" {other} " not in told


def test_a_button_reprocesses_a_delivery_and_shows_its_outcome(desk) -> None:
    desk.post("mended=later")
    newest = quarantine.newest(desk.database, "no_known_field", 1)[0]["id"]
    with desk.database.writing() as connection:
        body = RESULT.format(77, "Completed").encode()
        connection.execute(deliveries.update().where(deliveries.c.id == newest).values(body=body))
    sent = desk.admin.send("/attention/reprocess", reason="no_known_field")
    assert sent.status_code == 303
    told = section(desk.admin.open(sent.location), "not-understood")
    assert "5 deliveries were read again; 1 of them is understood now." in told
    assert "no_known_field 4 " in told
    headers = {"Authorization": f"Bearer {desk.admin.token}"}
    [outcome] = desk.admin.client.get("/api/v1/outcomes?call_id=77", headers=headers).json["data"]
    assert outcome["status"] == "completed"
    [entry] = [one for one in entries(desk.database) if one["what"] == "attention.reprocess"]
    assert (entry["who"], entry["asked"]) == ("reader-admin", [["reason", "no_known_field"]])


def test_missing_calls_are_listed_by_batch_and_polled_by_a_button(desk) -> None:
    over = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    calls = [
        {"integration": "steady", "reference": f"r{number}", "ends_at": over} | batch
        for number, batch in enumerate([{"batch": "spring"}, {"batch": "spring"}, {}, {"batch": HOSTILE[:200]}])
    ]
    headers = {"Authorization": f"Bearer {desk.admin.token}"}
    sent = desk.admin.client.post("/api/v1/expected-calls", json=calls, headers=headers)
    assert sent.status_code == 200, sent.text
    with desk.database.writing() as connection:
        connection.execute(expected_calls.update().values(due_at=None))
    told = soon(desk.admin, "missing", "steady spring 2 0 2 0 Ask Plum now")
    assert "steady – 1 0 1 0 Ask Plum now" in told
    assert "steady <script>document.title='taken'</script>" in told
    assert "<script>document" not in desk.admin.open("/attention")
    assert desk.admin.send("/attention/reconcile", integration="steady", batch="spring").status_code == 303
    with desk.database.reading() as connection:
        rows = connection.execute(expected_calls.select()).mappings().all()
    assert {row["reference"] for row in rows if row["due_at"]} == {"r0", "r1"}


def test_the_home_page_sums_up_what_needs_attention_in_one_line(desk) -> None:
    def line() -> str:
        return html.unescape(re.sub("<[^>]*>", "", desk.admin.open("/attention").split("</h1>")[1].split("</p>")[0]))

    number = sum(quarantine.count_by_reason(desk.database, datetime.now(UTC) - timedelta(days=30)).values())
    wait_until(lambda: f"{number} deliveries could not be understood" in line(), 40)
    assert "things need a person" in line()
    assert "stopped has sent nothing for" in line()
    assert "Housekeeping: does not run" in line()


def test_with_read_there_is_no_button_and_nothing_changes(desk) -> None:
    page = desk.reader.open("/attention")
    assert "attention/reprocess" not in page
    assert desk.reader.send("/attention/reprocess", reason="empty", csrf=desk.reader.csrf).status_code == 403
    assert desk.reader.send("/attention/reconcile", integration="steady").status_code == 403


def test_a_form_of_another_site_is_refused(desk) -> None:
    for path in ("/attention/reprocess", "/attention/reconcile"):
        assert desk.admin.send(path, csrf="guessed").status_code == 403


def test_while_the_copy_is_away_the_other_parts_are_shown(desk, tmp_path) -> None:
    settings = {"PLUM_DATABASE_URL": desk.settings.database_url, "PLUM_SPOOL_DIR": str(tmp_path / "spool")}
    app = create_app(from_environment(settings))
    reader = Reader(app, desk.database, Scope.READ, "while-away")
    for name in ("drift", "silent"):
        soon(reader, name, "This is not available now: ")
    soon(reader, "state", "Store ✓ takes deliveries.*Analytical copy ✗")
    page = reader.open("/attention")
    assert f"{REASONS['empty']} empty 2 " in section(page, "not-understood")


def test_the_backlog_of_the_spool_is_reported(desk, tmp_path) -> None:
    settings = from_environment({"PLUM_DATABASE_URL": desk.settings.database_url, "PLUM_SPOOL_DIR": str(tmp_path)})
    at = datetime.now(UTC)
    app = create_app(settings)
    Spool(tmp_path).append([Delivery(new_id(at), "steady", at, b"x"), Delivery(new_id(at), "steady", at, b"y")])
    reader = Reader(app, desk.database, Scope.READ, "spool-watcher")
    soon(reader, "state", "Spool ✗ 2 deliveries wait in it, the oldest for ")


def test_an_empty_store_shows_that_all_is_well(tmp_path) -> None:
    url = f"sqlite:///{tmp_path / 'outcomes.db'}"
    database = Database(url)
    migrating.migrate(database)
    with running(from_environment({"PLUM_DATABASE_URL": url, "PLUM_SPOOL_DIR": str(tmp_path / "spool")})) as app:
        app.extensions["watch"] = AttentionChecks(replace(app.extensions["plum"], heartbeat=lambda: 0.0))
        reader = Reader(app, database, Scope.READ)
        soon(reader, "not-understood", "Every delivery of the last 30 days was understood.")
        soon(reader, "missing", "No call is registered as expected")
        soon(reader, "silent", "has stopped")
        soon(reader, "drift", "no unknown words, fields or values in the last 30 days")
        wait_until(lambda: "All is well" in reader.open("/attention").split("</h1>")[1].split("</p>")[0], 20)
    database.close()


def test_quarantined_deliveries_are_found_by_an_index(desk) -> None:
    with desk.database.reading() as connection:
        wanted = (
            "SELECT reason, count(*) FROM deliveries WHERE deliveries.verdict = 'quarantined' AND received_at >= ''"
        )
        plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {wanted} GROUP BY reason").all())
    assert "ix_deliveries_quarantined" in plan
