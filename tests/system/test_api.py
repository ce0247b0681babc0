"""The query API: who may ask what, and that answers are whole, in order and of one form."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from uuid import uuid4

import pytest

from tests.system.conftest import Sender, Service, dev_body

LISTS = ["outcomes", "deliveries"]
NESTED = {"events", "extra", "problems", "headers", "metadata"}
OUTCOME_FIELDS = re.findall(
    r"\w+",
    "id integration product identity call_id message_reference reference batch phone_number phone_number_raw status "
    "status_raw callee_type callee_type_raw disposition answered_by attempts max_attempts reattempt_wait_seconds "
    "duration_seconds queued_at start_at end_at last_attempt_at connected_at disconnected_at ended_at received_at "
    "updated_at events extra problems deliveries possible_duplicate normaliser metadata",
)
DELIVERY_FIELDS = re.findall(
    r"\w+",
    "id integration product received_at via verdict reason outcome_id reference batch content_type headers query "
    "remote_addr size sha256 problems normaliser",
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def rfc2822(day: int) -> str:
    return datetime(2026, 3, day, 12, tzinfo=UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")


@pytest.fixture(scope="session")
def asked(service: Service) -> Sender:
    """A sender whose calls are of many kinds; several end at the same moment."""
    sender = service.sender("asked")
    endings = [("Completed", "voice"), ("Failed", "busy"), ("Completed", "answeringmachine"), ("Odd, word", "x")]
    for number in range(12):
        result, callee_type = endings[number % len(endings)]
        body = dev_body(
            call_id=f"c{number}",
            result=result,
            callee_type=callee_type,
            message_reference=f"ref,{number}" if number % 3 else None,
            attempts=number % 5 + 1,
            duration=number or None,
            last_attempt_timestamp=rfc2822(number % 4 + 1),
        )
        sender.post(body, below=f"/batch/b{number % 2}").assert_completed()
    fuse = {
        "phone_number": "'6175551234'",
        "status": "completed",
        "queued_timestamp": 1772539200,
        "max_attempts": "3",
    }
    events = [
        {"event": name, "timestamp": 1772539200 + n} for n, name in enumerate(["queued", "connected", "disconnected"])
    ]
    sender.post_json(fuse | {"events": events}).assert_completed()
    sender.post_json(
        {"status": "canceled", "start_timestamp": "1772539200", "reattempt_wait": "0"}
    ).assert_completed()
    sender.post_json(
        {"status": "canceled", "start_timestamp": "1772539200", "reattempt_wait": "0"}
    ).assert_completed()
    sender.post_json({"status": "rejected", "end_timestamp": "1772539200"}, "/call/a%2Cb").assert_completed()
    sender.post(dev_body(call_id="c0-local", phone_number="555-1234")).assert_completed()
    contact = {
        "contact": "+16175551234",
        "list": ["(617) 555-1234", {"phone": 6175551234}],
        "note": "ring 617-555-1234",
    }
    sender.post(dev_body(call_id="c0-extra") + b"&contact=%2B16175551234").assert_completed()
    sender.post_json({"result": "Completed", "callee_type": "voice", "phone_number": ["6175551234"]} | contact)
    sender.post(b"hello").assert_completed()
    sender.post(b" ", "text/plain; x=1").assert_completed()
    return sender


# --- tokens


def test_every_question_needs_a_token(service: Service, asked: Sender) -> None:
    outcome, delivery = (service.records(path, integration=asked.name)[0]["id"] for path in LISTS)
    paths = [
        "outcomes",
        f"outcomes/{outcome}",
        f"outcomes/{outcome}/deliveries",
        "deliveries",
        f"deliveries/{delivery}",
    ]
    wrong = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {service.token}",
        service.token,
        f"Bearer {service.token}x",
        "Bearer é",
    ]
    for path in [*paths, f"deliveries/{delivery}/body"]:
        assert service.get(path).status == 200
        for authorization in wrong:
            answer = service.request("GET", f"/api/v1/{path}", None, {"Authorization": authorization})
            assert answer.assert_problem(401).headers["WWW-Authenticate"].startswith("Bearer")
        assert (
            service.request("GET", f"/api/v1/{path}")
            .assert_problem(401)
            .headers["WWW-Authenticate"]
            .startswith("Bearer")
        )
        assert service.request("GET", f"/api/v1/{path}?token={service.token}").status == 401


def test_a_new_token_works_at_once_and_a_revoked_one_stops_soon_in_every_worker(service: Service) -> None:
    bearer = {"Authorization": f"Bearer {service.new_token('to-be-revoked', 'read')}"}
    assert {answer.status for answer in service.through_each_worker("GET", "/api/v1/outcomes", **bearer)} == {200}
    service.ok("token", "revoke", "to-be-revoked")
    service.assert_everywhere_soon(401, "/api/v1/outcomes", **bearer)


def test_keys_and_tokens_are_stored_hashed(service: Service, asked: Sender) -> None:
    stored = service.everything_stored()
    assert asked.key not in stored
    assert service.token not in stored


# --- masking


def test_read_sees_the_ends_of_a_phone_number_and_reveal_all_of_it(
    service: Service, asked: Sender, read_token: str
) -> None:
    shown = asked.outcome(call_id="c1")
    [masked] = service.records("outcomes", integration=asked.name, call_id="c1", token=read_token)
    assert (shown["phone_number"], shown["phone_number_raw"]) == ("+16175551234", "16175551234")
    assert masked["phone_number"] == "+1617•••1234"
    assert [character for character in masked["phone_number_raw"] if character.isdigit()] == list("1234")
    differing = {name for name in shown if shown[name] != masked[name]}
    assert differing == {"phone_number", "phone_number_raw"}
    assert service.get(f"outcomes/{shown['id']}", read_token).json() == masked


def test_with_read_no_phone_number_is_shown_anywhere(service: Service, asked: Sender, read_token: str) -> None:
    for path in LISTS:
        shown = json.dumps(service.records(path, integration=asked.name))
        masked = json.dumps(service.records(path, integration=asked.name, token=read_token))
        for number in ("6175551234", "617) 555", "617-555", "555-1234"):
            assert number not in masked
        assert path == "deliveries" or "6175551234" in shown


def test_read_may_not_filter_by_phone_nor_see_a_body(service: Service, asked: Sender, read_token: str) -> None:
    for field, value in (("phone_number", "+16175551234"), ("phone_number_raw", "16175551234")):
        service.get("outcomes", read_token, **{field: value}).assert_problem(403)
        assert service.get("outcomes", **{field: value}).status == 200
    service.get(f"deliveries/{asked.deliveries()[0]['id']}/body", read_token).assert_problem(403)


# --- records


def test_records_have_the_contracts_fields_in_its_order(asked: Sender) -> None:
    assert {tuple(outcome) for outcome in asked.outcomes()} == {tuple(OUTCOME_FIELDS)}
    assert {tuple(delivery) for delivery in asked.deliveries()} == {tuple(DELIVERY_FIELDS)}


def test_single_records_are_the_same_as_in_lists(service: Service, asked: Sender) -> None:
    for path in LISTS:
        for record in service.records(path, integration=asked.name):
            assert service.get(f"{path}/{record['id']}").json() == record
    for outcome in asked.outcomes():
        deliveries = service.records(f"outcomes/{outcome['id']}/deliveries")
        assert deliveries == asked.deliveries(outcome_id=outcome["id"])
        assert len(deliveries) == outcome["deliveries"]


def test_times_are_rfc_3339_in_utc(asked: Sender) -> None:
    for outcome in asked.outcomes():
        for name, value in outcome.items():
            if name.endswith("_at") and value is not None:
                assert value.endswith("Z")
                assert at(value).tzinfo == UTC


def test_ended_at_is_never_null(asked: Sender) -> None:
    assert all(outcome["ended_at"] for outcome in asked.outcomes())


@pytest.mark.parametrize("path", LISTS)
def test_an_unknown_page_is_not_found(service: Service, path: str) -> None:
    for unknown in (str(uuid4()), "nonsense", "%00", "0" * 32):
        service.get(f"{path}/{unknown}").assert_problem(404)
        service.get(f"{path}/{unknown}/{'deliveries' if path == 'outcomes' else 'body'}").assert_problem(404)
    service.get("nonsense").assert_problem(404)


@pytest.mark.parametrize("path", LISTS)
def test_a_single_record_takes_no_parameters(service: Service, asked: Sender, path: str) -> None:
    [record] = service.get(path, integration=asked.name, limit=1).json()["data"]
    service.get(f"{path}/{record['id']}", fields="id").assert_problem(422, "fields")


def test_another_method_is_a_problem_too(service: Service) -> None:
    for method in ("POST", "PUT", "DELETE"):
        answer = service.request(method, "/api/v1/outcomes", None, {"Authorization": f"Bearer {service.token}"})
        assert "GET" in answer.assert_problem(405).headers["Allow"]


# --- filters


@pytest.mark.parametrize("path", LISTS)
def test_every_field_filters_by_equality_and_by_any_of_several(service: Service, asked: Sender, path: str) -> None:
    everything = service.records(path, integration=asked.name)
    for field in everything[0].keys() - NESTED - {"integration"}:
        ids_by_value: dict[str, set[str]] = defaultdict(set)
        for record in everything:
            if record[field] is not None:
                value = record[field]
                ids_by_value[str(value).lower() if isinstance(value, bool) else str(value)].add(record["id"])
        values = sorted(ids_by_value)[:3]
        for some in [*([value] for value in values), values[:2], values]:
            asking = some if len(some) > 1 or "," not in "".join(some) else some * 2  # repeated: taken whole
            found = service.records(path, integration=asked.name, **{field: asking}) if some else []
            expected = set().union(*(ids_by_value[value] for value in some))
            assert {record["id"] for record in found} == expected, (field, some)
            assert len(found) == len(expected)
            if len(some) > 1 and not any("," in value for value in some):
                found = service.records(path, integration=asked.name, **{field: ",".join(some)})
                assert {record["id"] for record in found} == expected, (field, some)


def test_filters_hold_together(asked: Sender) -> None:
    found = asked.outcomes(batch="b1", disposition="busy,answered", callee_type="busy")
    assert found == [one for one in asked.outcomes() if (one["batch"], one["callee_type"]) == ("b1", "busy")] != []
    assert asked.outcomes(batch="b1", product="fuse") == []


def test_text_compares_with_case_and_whole(asked: Sender) -> None:
    assert asked.outcomes(call_id="C1") == asked.outcomes(call_id="c") == asked.outcomes(call_id="c%") == []


@pytest.mark.parametrize(("path", "moment"), [("outcomes", "ended_at"), ("deliveries", "received_at")])
def test_since_is_inclusive_and_until_is_not(service: Service, asked: Sender, path: str, moment: str) -> None:
    everything = service.records(path, integration=asked.name)
    moments = sorted({record[moment] for record in everything}, key=at)
    first, last = moments[1], moments[-2]
    found = service.records(path, integration=asked.name, since=first, until=last)
    assert found == [record for record in everything if at(first) <= at(record[moment]) < at(last)] != []


def test_a_time_without_an_offset_is_read_in_tz(asked: Sender) -> None:
    def days(**filters: str) -> set[str]:
        return {outcome["ended_at"][:10] for outcome in asked.outcomes(until="2026-03-04", **filters)}

    assert days(since="2026-03-02") == {"2026-03-02", "2026-03-03"}
    assert days(since="2026-03-02T12:00:00") == {"2026-03-02", "2026-03-03"}
    assert days(since="2026-03-02T12:00:00", tz="America/New_York") == {"2026-03-03"}
    assert days(since="2026-03-02T12:00:00Z", tz="America/New_York") == {"2026-03-02", "2026-03-03"}
    assert days(since="2026-03-02T07:00:00-05:00") == {"2026-03-02", "2026-03-03"}


# --- order and pages


@pytest.mark.parametrize(("path", "moment"), [("outcomes", "ended_at"), ("deliveries", "received_at")])
def test_lists_are_ordered_by_time_and_ties_by_id(service: Service, asked: Sender, path: str, moment: str) -> None:
    by_id = sorted(service.records(path, integration=asked.name), key=lambda record: record["id"])
    oldest_first = sorted(by_id, key=lambda record: at(record[moment]))
    newest_first = sorted(by_id, key=lambda record: at(record[moment]), reverse=True)
    assert service.records(path, integration=asked.name) == newest_first
    assert service.records(path, integration=asked.name, sort=f"-{moment}") == newest_first
    assert service.records(path, integration=asked.name, sort=moment) == oldest_first


@pytest.mark.parametrize("sort", ["", "-"])
@pytest.mark.parametrize(("path", "moment"), [("outcomes", "ended_at"), ("deliveries", "received_at")])
def test_pages_hold_each_row_once_and_lead_back(
    service: Service, asked: Sender, path: str, moment: str, sort: str
) -> None:
    filters: dict[str, Any] = {"integration": asked.name, "sort": sort + moment}
    everything = service.records(path, **filters)
    for limit in (1, 3, len(everything) - 1, len(everything)):
        pages = list(service.pages(path, limit=limit, **filters))
        assert [record for page in pages for record in page["data"]] == everything
        assert [len(page["data"]) for page in pages[:-1]] == [limit] * (len(pages) - 1)
        assert pages[0]["prev"] is None
        if len(pages) > 1:
            assert pages[-1]["prev"] is not None
            last_but_one = pages[-1]["prev"].partition("/api/")[2]
            back = list(service.pages(f"/api/{last_but_one}", "prev"))
            assert [page["data"] for page in back] == [page["data"] for page in pages[-2::-1]]


def test_a_page_links_to_its_neighbours_in_its_headers(service: Service, asked: Sender) -> None:
    first = service.get("outcomes", integration=asked.name, limit=2)
    assert first.headers["Link"] == f'<{first.json()["next"]}>; rel="next"'
    second = service.get("/api/" + first.json()["next"].partition("/api/")[2])
    links = {link.strip() for link in second.headers["Link"].split(",")}
    assert links == {f'<{second.json()[name]}>; rel="{name}"' for name in ("next", "prev")}
    assert first.json()["next"].startswith(service.settings["PLUM_PUBLIC_URL"])


def test_a_walk_sees_each_old_row_once_while_new_ones_arrive(sender: Sender) -> None:
    sent = {sender.assert_accepted(dev_body(call_id=str(number))) for number in range(9)}
    seen = []
    for number, page in enumerate(sender.service.pages("deliveries", integration=sender.name, limit=2)):
        seen += [delivery["id"] for delivery in page["data"]]
        sender.assert_accepted(dev_body(call_id=f"late {number}"))
    assert sorted(seen) == sorted(sent)


def test_an_empty_answer_has_the_same_envelope(service: Service) -> None:
    for path in LISTS:
        answer = service.get(path, integration="nobody").json()
        assert answer == {"data": [], "next": None, "prev": None, "count": {"value": None, "kind": "none"}}


# --- wrong questions


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cursor", "nonsense"),
        ("cursor", "bm9uc2Vuc2U"),
        ("cursor", "W10"),
        ("cursor", ""),
        ("cursor", "é\0"),
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "-1"),
        ("limit", "ten"),
        ("limit", "²"),
        ("limit", ""),
        ("limit", "9" * 5000),
        ("nonsense", "1"),
        ("nonsense__not", "1"),
        ("product__nearly", "dev"),
        ("product", "inside"),
        ("id", "1"),
        ("received_at", "yesterday"),
        ("received_at", "2026-02-30"),
        ("since", "never"),
        ("since", "0001-01-01T00:00:00+23:59"),
        ("until", "9999-12-31T23:59:59-23:59"),
        ("tz", "Mars/Olympus"),
        ("tz", "../../etc/passwd"),
        ("tz", "\0"),
        ("sort", "nonsense"),
        ("count", "nearly"),
        ("problems", "x"),
    ],
)
def test_a_wrong_query_names_its_errors(service: Service, path: str, name: str, value: str) -> None:
    service.get(path, **{name: value}).assert_problem(422, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempts", "1.5"),
        ("attempts", "99999999999999999999"),
        ("status", "done"),
        ("possible_duplicate", "maybe"),
        ("events", "x"),
    ],
)
def test_a_value_must_fit_its_field(service: Service, name: str, value: str) -> None:
    service.get("outcomes", **{name: value}).assert_problem(422, name)


def test_all_errors_are_reported_at_once(service: Service) -> None:
    service.get("outcomes", limit=0, nonsense=1, status="done,completed", since="x").assert_problem(
        422, "limit", "nonsense", "since", "status"
    )


def test_a_cursor_is_of_one_list_in_one_order(service: Service, asked: Sender) -> None:
    cursor = (
        service.get("outcomes", integration=asked.name, limit=1)
        .json()["next"]
        .partition("cursor=")[2]
        .partition("&")[0]
    )
    assert service.get("outcomes", integration=asked.name, cursor=cursor).status == 200
    service.get("outcomes", integration=asked.name, cursor=cursor, sort="ended_at").assert_problem(422, "cursor")
    service.get("deliveries", integration=asked.name, cursor=cursor).assert_problem(422, "cursor")


def test_strange_texts_match_nothing_and_break_nothing(service: Service) -> None:
    for text in ("%00", "%FF", "%ED%A0%80", "'%3B--", "%F0%9F%93%9E", "x" * 2000, ""):
        for field in ("call_id", "reference", "phone_number", "phone_number_raw", "normaliser"):
            assert service.get(f"outcomes?{field}={text}&{field}={text}").json()["data"] == []


@pytest.mark.parametrize(
    "path",
    ["outcomes", "outcomes?odd=1", "outcomes/nothing", "deliveries", "summary", "outcomes.csv", "nowhere", "live"],
)
@pytest.mark.parametrize("has_token", [True, False])
def test_no_answer_of_the_api_is_kept_by_a_cache_or_guessed_at(service: Service, path: str, has_token: bool) -> None:
    headers = {"Authorization": f"Bearer {service.token}"} if has_token else {}
    with closing(HTTPConnection("127.0.0.1", service.port, timeout=30)) as connection:
        connection.request("GET", f"/api/v1/{path}", headers=headers)
        answer = connection.getresponse()
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
