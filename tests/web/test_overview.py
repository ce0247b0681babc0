"""The overview and the search box, against a count by hand of the calls that the store has."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from random import Random
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from app.config import from_environment
from app.errors import CopyUnavailable
from app.interpret import interpret
from app.model import Delivery, Disposition, Scope
from app.query_router import QueryRouter
from app.store import migrating
from app.store.database import Database
from app.store.readings import save
from app.store.tokens import add_token
from app.web.pages import overview
from tests.store.oracle import all_rows
from tests.web.conftest import running

NOW = datetime(2026, 3, 20, 15, 20, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")  # whose clocks change on 8 March
PAGE_BYTES = 100_000
KINDS = {
    "answered": ("Completed", "voice"),
    "no_answer": ("Failed", "noanswer"),
    "busy": ("Failed", "busy"),
    "failed": ("Failed", "linefailure"),
    "rejected": ("Rejected", ""),
    "canceled": ("Canceled", ""),
    "not_attempted": ("Uncalled", ""),
    "unknown": ("odd", ""),
}
HOSTILE = "<script>alert(1)</script>, \u202e\"&'"
BATCHES = [None, "spring", "a,b", HOSTILE, "x" * 255, *(f"batch {number}" for number in range(20))]
PHONE = "+16175550000"


def _delivery(name: str, fields: dict[str, Any], **changes: Any) -> Delivery:
    given = {"integration": "plum", "received_at": NOW} | changes
    return Delivery(uuid5(UUID(int=7), name), body=json.dumps(fields).encode(), **given)


def _calls() -> Iterator[Delivery]:
    """Some of each disposition on each of 100 days."""
    random = Random(14)
    for number, (day, kind) in enumerate((day, kind) for day in range(100) for kind in KINDS):
        result, callee_type = KINDS[kind]
        at = NOW - timedelta(days=day, minutes=random.randrange(1400))
        answerer = random.choice(["voice", "answeringmachine"]) if kind == "answered" else callee_type
        fields = {
            "result": result,
            "callee_type": answerer,
            "call_id": f"call-{number}",
            "phone_number": f"617555{number:04}",
            "attempts": random.choice(["", "1", "3"]),
            "duration": random.choice(["", "0", "37", "800"]),
            "last_attempt_timestamp": at.strftime("%a, %d %b %Y %H:%M:%S +0000"),
        }
        integration = random.choice(["plum", "other"])
        yield _delivery(f"{number}", fields, integration=integration, batch=random.choice(BATCHES))


def _named(*, count: int = 2) -> Iterator[Delivery]:
    """Calls of long ago, to be searched."""
    for number in range(count):
        fields = {
            "result": "Completed",
            "call_id": f"twin-{number}",
            "message_reference": "shared",
            "last_attempt_timestamp": "Mon, 19 Jul 2004 13:46:03 -0400",
        }
        yield _delivery(f"named {number}", fields, reference="both" if number else "one")
    yield _delivery("unreadable", {})


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[FlaskClient]:
    yield from _serving(tmp_path_factory.mktemp("overview"), [*_calls(), *_named()])


def _serving(directory: Any, deliveries: list[Delivery]) -> Iterator[FlaskClient]:
    url = f"sqlite:///{directory / 'outcomes.db'}"
    database = Database(url)
    migrating.migrate(database)
    if deliveries:
        save(database, [interpret(delivery) for delivery in deliveries])
    tokens = {scope: add_token(database, scope.value, scope, datetime.now(UTC)) for scope in Scope}
    paths = {"PLUM_SPOOL_DIR": str(directory), "PLUM_ANALYTICS_PATH": str(directory / "copy.duckdb")}
    with running(from_environment({"PLUM_DATABASE_URL": url, **paths})) as app:
        made = app.test_client()
        made.database, made.tokens = database, tokens
        made.set_cookie("plum_token", tokens[Scope.READ])
        yield made
    database.close()


@pytest.fixture(autouse=True)
def at_a_fixed_time(monkeypatch) -> None:
    monkeypatch.setattr(overview, "now", lambda: NOW)


@pytest.fixture
def revealing(client) -> Iterator[FlaskClient]:
    client.set_cookie("plum_token", client.tokens[Scope.REVEAL])
    yield client
    client.set_cookie("plum_token", client.tokens[Scope.READ])


class Tables(HTMLParser):
    """The tables of a page by the label of their region: rows of texts, and all links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.links: list[str] = []
        self.label, self.is_cell = "", False
        self.feed(page)

    def handle_starttag(self, tag: str, given: list[tuple[str, str | None]]) -> None:
        attributes = dict(given)
        assert "style" not in attributes
        if attributes.get("role") == "region":
            self.label = attributes["aria-label"] or ""
        elif tag == "tr":
            self.tables.setdefault(self.label, []).append([])
        elif tag in ("td", "th"):
            self.tables[self.label][-1].append("")
            self.is_cell = True
        elif tag == "small" and self.is_cell:
            self.tables[self.label][-1][-1] += " of "
        elif tag == "a":
            self.links.append(attributes["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        self.is_cell = self.is_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.is_cell:
            self.tables[self.label][-1][-1] += data


def _page(client: FlaskClient, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert len(answer.data) <= PAGE_BYTES
    return answer.text


def _figures(page: str) -> dict[str, list[str]]:
    """By name what is told: the figure, its change, and what it is of."""
    told = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    return {name: re.sub(r"\s*(</?small>\s*)+", "|", figure).strip("|").split("|") for name, figure in told}


def _ended(client: FlaskClient, since: datetime, until: datetime) -> list[dict[str, Any]]:
    return [row for row in all_rows(client.database) if since <= row["ended_at"] < until]


def _day(day: int, month: int = 3) -> datetime:
    return datetime(2026, month, day, tzinfo=NEW_YORK)


def test_the_figures_are_those_of_the_period_and_of_as_much_time_before(client) -> None:
    told = _figures(_page(client, "/?tz=America/New_York"))
    rows = _ended(client, _day(19, 2), _day(21))
    # Of the last day no more than has passed of today, by the clock of New York.
    before = _ended(client, _day(20, 1), datetime(2026, 2, 18, 11, 20, tzinfo=NEW_YORK))
    share = (len(before) - len(rows)) / len(before) * 100
    assert told["Calls"] == [str(len(rows)), f"▼ down {share:.1f} % from {len(before)}"]
    answered = [sum(row["disposition"] == "answered" for row in some) / len(some) for some in (rows, before)]
    assert told["Answer rate"][0] == f"{answered[0] * 100:.1f} %"
    assert f"from {answered[1] * 100:.1f} %" in told["Answer rate"][1]
    human = [row["answered_by"] == "human" for row in rows if row["answered_by"]]
    assert told["Human rate"][0] == f"{sum(human) / len(human) * 100:.1f} %"
    assert told["Attempts"][0] == f"{sum(row['attempts'] or 0 for row in rows):,}"


def test_the_chart_and_its_table_have_each_day_and_disposition_and_lead_to_those_calls(client) -> None:
    page = _page(client, f"/?since=2026-03-05&until=2026-03-12&tz=America/New_York&batch__not={quote(HOSTILE)}")
    rows = [row for row in _ended(client, _day(5), _day(12)) if row["batch"] not in HOSTILE.split(",")]
    counted = Counter((row["ended_at"].astimezone(NEW_YORK).date(), row["disposition"]) for row in rows)
    head, *lines = Tables(page).tables["Table of calls by day"]
    assert head == ["Day", "Calls", *(word.replace("_", " ").capitalize() for word in Disposition)]
    days = [(_day(5) + timedelta(days=number)).date() for number in range(7)]
    for day, line in zip(days, lines, strict=True):
        counts = [counted[day, word] for word in Disposition]
        assert line == [f"{day:%a %-d %b}", str(sum(counts)), *map(str, counts)]
    marks = re.findall(r'<a href="(/calls[^"]*)" tabindex="-1"><title>[^<]*: (\d+) ', page)
    assert sum(int(count) for _, count in marks) == len(rows)
    assert len(marks) == len(counted)
    for link, count in marks:
        assert _listed(client, unescape(link)) == int(count)


def _listed(client: FlaskClient, link: str) -> int:
    """How many calls the list has that the link leads to."""
    answer = client.get(f"/api/v1/outcomes?{urlsplit(link).query}&limit=1&count=exact")
    assert answer.status_code == 200, answer.text
    return answer.json["count"]["value"]


def test_the_heat_map_folds_the_hours_of_the_wall_clock_by_weekday(client) -> None:
    rows = _ended(client, _day(19, 2), _day(21))
    head, *days = Tables(_page(client, "/?tz=America/New_York")).tables["Answer rate by weekday and hour"]
    assert head[1:] == [f"{hour:02}" for hour in range(24)]
    at = [(row["ended_at"].astimezone(NEW_YORK), row["disposition"] == "answered") for row in rows]
    assert [told[0] for told in days] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    for weekday, told in enumerate(days):
        for hour, cell in enumerate(told[1:]):
            there = [is_answered for moment, is_answered in at if (moment.weekday(), moment.hour) == (weekday, hour)]
            assert cell == (f"{sum(there) / len(there) * 100:.0f}% of {len(there)}" if there else "")


def test_each_hour_of_the_heat_map_leads_to_its_calls(client) -> None:
    page = Tables(_page(client, "/?tz=America/New_York&integration=plum"))
    links = [link for link in page.links if "weekday=" in link]
    _, *days = page.tables["Answer rate by weekday and hour"]
    counts = [int(cell.rpartition(" ")[2]) for day in days for cell in day[1:] if cell]
    assert len(links) == len(counts) > 20
    assert [_listed(client, link) for link in links[:10]] == counts[:10]
    narrowed = client.get(links[0]).text
    assert "ended on a Monday" in narrowed
    assert re.search(r"ended from \d\d:00 to \d\d:59", narrowed)


@pytest.mark.parametrize("field", ["integration", "product", "batch"])
def test_the_largest_groups_are_shown_and_link_to_their_calls(client, field) -> None:
    page = Tables(_page(client, "/?period=90-days"))
    _, *lines = page.tables[f"Calls by {field}"]
    rows = _ended(client, NOW.replace(hour=0, minute=0) - timedelta(days=89), NOW + timedelta(days=1))
    counted = Counter(row[field] for row in rows)
    assert [int(line[1]) for line in lines] == sorted(counted.values(), reverse=True)[:15]
    assert sum(int(line[2]) for line in lines) <= sum(row["disposition"] == "answered" for row in rows)
    links = [link for link in page.links if f"&{field}" in link and "disposition" not in link]
    assert [_listed(client, link) for link in links] == [
        int(line[1]) for line in lines if not line[0].startswith("xxx")
    ]  # what is too long to be repeated is no link


def test_the_newest_results_are_shown_by_time_of_receipt(tmp_path_factory) -> None:
    serving = _serving(tmp_path_factory.mktemp("few"), list(_named()))
    client = next(serving)
    page = _page(client, "/")
    assert page.index("Came last") < page.index('id="figures"')
    assert "No call ended in this time" in page
    [elsewhere] = {link for link in Tables(page).links if link.startswith("/?since=2004")}
    assert elsewhere == "/?since=2004-06-20&until=2004-07-20"
    assert _figures(_page(client, elsewhere))["Calls"][0] == "2"
    assert [*serving] == []


def test_an_empty_store_says_what_to_do_next(tmp_path_factory) -> None:
    serving = _serving(tmp_path_factory.mktemp("empty"), [])
    page = _page(next(serving), "/")
    assert "No result has come yet" in page
    assert 'href="/setup"' in page
    assert "plum-outcomes simulate" in page
    assert [*serving] == []


def test_while_the_copy_is_away_the_page_says_so_and_shows_the_newest(client, monkeypatch) -> None:
    def away(*_: object) -> None:
        raise CopyUnavailable("the analytical copy is being filled: 3 %")

    monkeypatch.setattr(QueryRouter, "group_counts", away)
    page = _page(client, "/")
    assert page.count("the analytical copy is being filled: 3 %") == 1
    assert len(Tables(page).tables["The calls that came last"]) == 11


def test_hostile_values_are_text_and_nothing_is_styled_or_run_in_the_page(client) -> None:
    page = _page(client, f"/?batch={quote(HOSTILE)}&batch={quote(HOSTILE)}")
    Tables(page)  # which refuses styles
    assert page.count("<script") == 1
    assert "<style" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert _figures(page)["Calls"][0] != "0"


@pytest.mark.parametrize(
    "bounds",
    [
        "?since=2026-02-01&until=2026-03-08",
        "?since=2026-03-01&until=2026-03-03",
        "?period=today",
        "?period=year",
        "?period=all",
    ],
)
def test_no_period_makes_the_page_too_large(client, bounds) -> None:
    page = _page(client, f"/{bounds}&tz=America/New_York&integration=plum,other&attempts__not=77")
    assert "<rect" in page


def test_without_reveal_numbers_are_masked_and_cannot_be_filtered(client) -> None:
    page = _page(client, "/")
    assert "+1617•••" in page
    assert not re.search("617555[0-9]", page)
    assert client.get("/?phone_number=%2B16175550001").status_code == 403


@pytest.mark.parametrize(
    "wrong", ["period=soon", "since=soon", "since=2026-03-02&until=2026-03-01", "tz=Mars", "batch__like=x", "limit=1"]
)
def test_a_wrong_parameter_is_named(client, wrong) -> None:
    answer = client.get(f"/?{wrong}")
    assert answer.status_code == 422
    assert "<dt>" in answer.text


@pytest.mark.parametrize("path", ["/", "/calls"])
def test_empty_fields_of_the_period_form_are_ignored(client, path) -> None:
    page = _page(client, f"{path}?since=&until=&tz=")
    assert "ended from" not in page
    assert not [link for link in Tables(page).links if link.startswith("/calls?") and "tz=&" in link]


def test_asking_for_a_number_is_in_the_audit_log(client, revealing) -> None:
    page = _page(revealing, f"/?period=all&phone_number={quote(PHONE)}")
    assert _figures(page)["Calls"] == ["1"]
    assert _logged(client, "overview.show") == ['[["period","all"],["phone_number","•••"]]']


# --- the search box


def _led_to(client: FlaskClient, searched: str) -> str:
    answer = client.get("/search", query_string={"q": searched})
    assert answer.status_code == 303, answer.text
    return answer.headers["Location"]


def _logged(client: FlaskClient, what: str) -> list[str]:
    with client.database.reading() as connection:
        found = connection.execute(text("SELECT asked FROM audit WHERE what = :what"), {"what": what})
        return list(found.scalars())


def _outcome(client: FlaskClient, **fields: object) -> UUID:
    [found] = [row for row in all_rows(client.database) if fields.items() <= row.items()]
    return found["id"]


def test_a_search_with_one_match_leads_to_the_call(client) -> None:
    key = _outcome(client, call_id="twin-0")
    for searched in (str(key), str(key).upper(), str(uuid5(UUID(int=7), "named 0")), "one", " twin-0 ", "win-0"):
        assert _led_to(client, searched) == f"/calls/{key}"


def test_a_search_with_several_matches_leads_to_their_list(client) -> None:
    assert _led_to(client, "shared") == "/calls?message_reference=shared"
    assert _led_to(client, "win-") == "/calls?call_id__contains=win-"
    assert _listed(client, "/calls?call_id__contains=win-") == 2


def test_a_search_that_matches_several_fields_links_to_each_list(client) -> None:
    answer = client.get("/search?q=h")  # in "shared" and "both"
    assert answer.status_code == 200
    links = [link for link in Tables(answer.text).links if "contains" in link]
    assert links == ["/calls?reference__contains=h", "/calls?message_reference__contains=h"]
    assert re.findall(r"</a>: (\d+ calls?)", answer.text) == ["1 call", "2 calls"]


def test_a_delivery_of_no_call_is_shown_itself(client) -> None:
    key = uuid5(UUID(int=7), "unreadable")
    assert _led_to(client, str(key)) == f"/deliveries/{key}"
    assert "Quarantined" in _page(client, f"/deliveries/{key}")


@pytest.mark.parametrize(
    "searched", ["nothing-like-it", "5f0d3bd6-6e2b-4b0c-9d7e-0d1f6a3c9b52", HOSTILE, "x" * 3000, "\0", "%", "é"]
)
def test_a_search_without_matches_says_so(client, searched) -> None:
    answer = client.get("/search", query_string={"q": searched})
    assert answer.status_code == 200
    assert "No call found" in answer.text
    assert answer.text.count("<script") == 1


def test_with_reveal_numbers_can_be_searched_and_the_audit_log_says_so(client, revealing) -> None:
    key = _outcome(client, phone_number=PHONE)
    for searched in ("(617) 555-0000", "+1 617 555 0000", "16175550000"):
        assert _led_to(revealing, searched) == f"/calls/{key}"
    assert _led_to(revealing, "617 555") == "/calls?phone_number__contains=617555"
    assert _logged(client, "search.show") == ['[["q","•••"]]'] * 4


def test_without_reveal_numbers_cannot_be_searched(client) -> None:
    for searched in ("(617) 555-0000", "5550000"):
        answer = client.get("/search", query_string={"q": searched})
        assert answer.status_code == 200
        assert "needs a token with the scope reveal" in answer.text
        assert "No call found" in answer.text


def test_while_the_copy_is_away_whole_values_are_found_and_parts_are_said_not_to_be(client, monkeypatch) -> None:
    def away(*_: object) -> None:
        raise CopyUnavailable("the copy is away")

    monkeypatch.setattr(QueryRouter, "_ask", away)
    assert _led_to(client, "twin-0").startswith("/calls/")
    answer = client.get("/search?q=win-0")
    assert "cannot be searched now: the copy is away" in answer.text
