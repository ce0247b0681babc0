"""Requests: what is refused before it is sent, and how the rest is spelled."""

from __future__ import annotations

import base64
import email.policy
import json
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from urllib.parse import parse_qsl

import pytest

from app.plum.client import InvalidRequest, NotOffered, connect
from tests.plum.client.conftest import (
    NOW,
    PHONE,
    PLACES,
    RESULT_URL,
    SECRET,
    USER,
    bulk_request,
    call_request,
    client,
    peer,
    perform,
)

HOUR = timedelta(hours=1)
NUMBERED = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"call_id":1}'
DEV = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<queuecall status="queued" call_id="1"/>'
OK = {"dev": DEV, "insight": NUMBERED, "fuse": NUMBERED}

REFUSED = [  # products, field, value, what the refusal says
    ("all", "phone", "", "digits like"),
    ("all", "phone", "617-555-0123", "digits like"),
    ("all", "phone", "tel:+16175550123;ani=abc", "digits like"),
    ("all", "phone", "1" * 21, "digits like"),
    ("all", "phone", "16175550123" + ";postd=1" * 20, "digits like"),
    ("all", "phone", "16175550123\n", "digits like"),
    ("all", "max_attempts", 0, "1 to 1"),
    ("insight fuse", "max_attempts", 11, "1 to 10"),
    ("dev", "max_attempts", 12, "1 to 11"),
    ("dev", "reattempt_wait_seconds", 59, "60 to 172800"),
    ("dev", "reattempt_wait_seconds", 172801, "60 to 172800"),
    ("fuse", "reattempt_wait_seconds", 59, "60 to 86400"),
    ("fuse", "reattempt_wait_seconds", 86401, "60 to 86400"),
    ("insight", "reattempt_wait_seconds", -1, "0 to"),
    ("all", "end", NOW, "this window is over"),
    ("all", "end", datetime(2027, 1, 1), "offset from UTC"),
    ("all", "start", datetime(1969, 1, 1, tzinfo=UTC), "after 1970"),
    ("all", "result_url", "calls.example/result/K", "http(s) address"),
    ("all", "result_url", "http://calls.example/result/a b", "http(s) address"),
    ("all", "result_url", "http://calls.example:x/", "http(s) address"),
    ("all", "result_url", "http://calls.example/é", "http(s) address"),
    ("dev", "result_url", "http://calls.example/" + "x" * 235, "at most 255 characters"),
    ("dev", "start_url", "http://calls.example/" + "x" * 235, "at most 255 characters"),
    ("dev", "start_url", None, "VoiceXML"),
    ("insight fuse", "start_url", "http://calls.example/", "only DEV has it"),
    ("insight", "to", None, "SURVEY/INSTANCE"),
    ("fuse", "to", "4", "APPLICATION/DEPLOYMENT"),
    ("insight fuse", "to", "4/5/../6", "ids"),
    ("dev", "to", "4/5", "start_url"),
    ("dev insight", "pci", True, "only Fuse has it"),
    ("all", "reference", "", "1 to 255 characters"),
    ("all", "reference", "x" * 256, "1 to 255 characters"),
    ("all", "metadata", {"a[b]": "1"}, "without brackets"),
    ("all", "metadata", {"": "1"}, "1 to 255 characters"),
    ("all", "metadata", {"a": 1}, "texts by name"),
    ("dev", "metadata", {"a": "ü" * 43}, "255 characters once it is urlencoded"),
]
CASES = [
    (product, field, value, says)
    for products, field, value, says in REFUSED
    for product in (("dev", "insight", "fuse") if products == "all" else products.split())
]


@pytest.mark.parametrize(("product", "field", "value", "says"), CASES)
def test_a_request_beyond_a_limit_is_refused_by_name_and_not_sent(
    product: str, field: str, value: object, says: str, nobody: str
) -> None:
    with client(product, nobody) as ours, pytest.raises(InvalidRequest) as refusal:
        ours.queue(call_request(product, **{field: value}))
    assert refusal.value.field == field
    assert says in str(refusal.value)
    assert str(refusal.value).startswith(f"{field} should be ")
    assert field not in ("phone", "result_url") or not value or str(value) not in str(refusal.value)


@pytest.mark.parametrize("product", PLACES)
def test_a_window_ends_after_it_starts(product: str, nobody: str) -> None:
    with client(product, nobody) as ours, pytest.raises(InvalidRequest, match="end should be later than start"):
        ours.queue(call_request(product, start=NOW + HOUR, end=NOW + HOUR))


@pytest.mark.parametrize("product", PLACES)
def test_more_than_one_attempt_needs_a_wait(product: str, nobody: str) -> None:
    with (
        client(product, nobody) as ours,
        pytest.raises(InvalidRequest, match="reattempt_wait_seconds should be given"),
    ):
        ours.queue(call_request(product, max_attempts=2))


@pytest.mark.parametrize(
    "phone",
    [
        "6175550123",
        "16175550123",
        PHONE,
        "tel:+16175550123;ani=8009957586;postd=2",
        "16175550123;postd=12,,3#*",
        "tel:16175550123",
    ],
)
@pytest.mark.parametrize("product", PLACES)
def test_numbers_are_dialled_in_every_form_of_plums_pages(product: str, phone: str) -> None:
    assert fields(sent(product, phone=phone))["phone_number"] == phone


# Contact lists


@pytest.mark.parametrize(
    ("csv", "says"),
    [
        (b"", "csv should be a list whose first header is destination"),
        (b"phone\n16175550123\n", "csv should be a list whose first header is destination"),
        (b"name,destination\na,16175550123\n", "csv should be a list whose first header is destination"),
        (b"destination,name,destination\n16175550123,a,16175550124\n", "csv should be a list whose headers differ"),
        (b"destination\n", "csv should be a list with at least one row"),
        (b"destination\n\n\n", "csv should be a list with at least one row"),
        (b"destination\n16175550123\nnonsense\n", "csv row 2: destination should be digits"),
        (b"destination,name\n,Steve\n", "csv row 1: destination should be digits"),
        (b"destination\n16175550123,Steve\n", "csv row 1 should be of at most 1 cells"),
        (b"destination\n\xff\n", "csv should be CSV in UTF-8"),
        (b'destination\n"16175550123\n', "csv should be CSV in UTF-8"),
    ],
)
@pytest.mark.parametrize("product", PLACES)
def test_a_contact_list_that_plum_cannot_dial_is_refused(product: str, csv: bytes, says: str, nobody: str) -> None:
    with client(product, nobody) as ours, pytest.raises(InvalidRequest) as refusal:
        ours.bulk_queue(bulk_request(product, csv=csv))
    assert str(refusal.value).startswith(says)


@pytest.mark.parametrize(("column", "most"), [("message_reference", 128), ("call_parameters", 255)])
def test_rows_of_devs_list_have_limits_of_their_own(column: str, most: int) -> None:
    def csv(length: int) -> bytes:
        return f"destination,{column}\n16175550123,{'x' * length}\n".encode()

    with peer(DEV) as plum, client("dev", plum.url) as ours:
        assert ours.bulk_queue(bulk_request("dev", csv=csv(most))) == 1
        with pytest.raises(InvalidRequest, match=f"csv row 1: {column} should be at most {most} characters"):
            ours.bulk_queue(bulk_request("dev", csv=csv(most + 1)))
        assert len(plum.requests) == 1
    with peer(NUMBERED) as plum, client("fuse", plum.url) as ours:
        assert ours.bulk_queue(bulk_request("fuse", csv=csv(most + 1))) == 1


def test_a_batch_has_a_name(nobody: str) -> None:
    with client("fuse", nobody) as ours, pytest.raises(InvalidRequest, match="name should be 1 to 255 characters"):
        ours.bulk_queue(bulk_request("fuse", name=""))


# Spelling


def sent(product: str, call: str = "queue", **changes: object) -> bytes:
    """The request that reaches Plum, whole."""
    with peer(OK[product]) as plum, client(product, plum.url) as ours:
        if call == "queue":
            ours.queue(call_request(product, **changes))
        elif call == "bulk_queue":
            ours.bulk_queue(bulk_request(product, **changes))
        else:
            perform(ours, call)
        assert len(plum.requests) == 1
        return plum.requests[0]


def head(request: bytes) -> tuple[str, dict[str, str]]:
    first, _, rest = request.partition(b"\r\n\r\n")[0].decode().partition("\r\n")
    return first.removesuffix(" HTTP/1.1"), {
        name.lower(): value for name, value in (line.split(": ", 1) for line in rest.split("\r\n"))
    }


def fields(request: bytes) -> dict[str, str]:
    content_type, body = head(request)[1]["content-type"], request.partition(b"\r\n\r\n")[2]
    if content_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.decode(), strict_parsing=True))
    message = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body, policy=email.policy.HTTP)
    return {
        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True).decode()
        for part in message.iter_parts()
    }


TERMS = {"start": NOW + HOUR, "end": NOW + 2 * HOUR, "max_attempts": 3, "reattempt_wait_seconds": 300}
UNIX = int(NOW.timestamp())


def test_dev_gets_login_pin_and_retries_in_both_spellings() -> None:
    request = sent("dev", **TERMS, reference="Müller #7", metadata={"name": "A&B", "age": "7"})
    assert head(request)[0] == "POST /webservice/queuecall.php"
    assert "authorization" not in head(request)[1]
    assert fields(request) == {
        "login": USER,
        "pin": SECRET,
        "phone_number": PHONE,
        "start_url": PLACES["dev"]["start_url"],
        "result_url": RESULT_URL,
        "message_reference": "Müller #7",
        "call_parameters": "name=A%26B&age=7",
        "max_retries": "2",
        "max_retry": "2",
        "retry_interval": "300",
        "scheduled_timestamp": str(UNIX + 3600),
        "expiration_timestamp": str(UNIX + 7200),
    }


@pytest.mark.parametrize(
    ("product", "path", "own"),
    [
        ("insight", "/api/surveys/12/3/queue", {"metadata[name]": "A&B", "metadata[age]": "7"}),
        ("fuse", "/api/apps/4/5/queue", {"metadata": '{"name": "A&B", "age": "7"}'}),
    ],
)
def test_insight_and_fuse_get_basic_authentication_and_unix_times(
    product: str, path: str, own: dict[str, str]
) -> None:
    request = sent(product, **TERMS, reference="appt-42", metadata={"name": "A&B", "age": "7"})
    first, headers = head(request)
    assert first == f"POST {path}"
    assert headers["authorization"] == "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
    assert headers["accept"] == "application/json"
    assert fields(request) == {
        "phone_number": PHONE,
        "result_url": RESULT_URL,
        "start_timestamp": str(UNIX + 3600),
        "end_timestamp": str(UNIX + 7200),
        "max_attempts": "3",
        "reattempt_wait": "300",
        **own,
    }


def test_a_request_names_only_what_was_asked_for() -> None:
    assert set(fields(sent("fuse"))) == {"phone_number", "result_url"}
    assert fields(sent("fuse", pci=True))["is_pci"] == "1"
    assert json.loads(fields(sent("fuse", metadata={"ü": "é"}))["metadata"]) == {"ü": "é"}


@pytest.mark.parametrize(
    ("product", "path", "own"),
    [
        (
            "dev",
            "/webservice/queuecalls.php",
            {
                "login": USER,
                "pin": SECRET,
                "start_url": PLACES["dev"]["start_url"],
                "campaign_name": "reminders",
                "max_retries": "0",
                "max_retry": "0",
                "input_file": "destination\n16175550123\n",
            },
        ),
        ("insight", "/api/surveys/12/3/bulk_queue", {"csv": "destination\n16175550123\n", "max_attempts": "1"}),
        ("fuse", "/api/apps/4/5/bulk_queue", {"csv": "destination\n16175550123\n", "max_attempts": "1"}),
    ],
)
def test_a_batch_goes_as_a_file_without_the_mark_of_spreadsheets(product: str, path: str, own: dict) -> None:
    request = sent(product, "bulk_queue", csv=b"\xef\xbb\xbfdestination\n16175550123\n", max_attempts=1)
    assert head(request)[0] == f"POST {path}"
    assert head(request)[1]["content-type"].startswith("multipart/form-data; boundary=")
    assert fields(request) == {"result_url": RESULT_URL, **own}


@pytest.mark.parametrize(("product", "path"), [("insight", "/api/surveys/12/3"), ("fuse", "/api/apps/4/5")])
def test_cancelling_and_asking_have_no_body(product: str, path: str) -> None:
    first, headers = head(sent(product, "cancel"))
    assert first == f"DELETE {path}/cancel"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    details = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"call_details":{"status":"queued"}}'
    with peer(details) as plum, client(product, plum.url + "/") as ours:
        ours.status("155761")
        assert head(plum.requests[0])[0] == "GET /api/outbound/155761"


def test_a_base_url_may_have_a_path() -> None:
    with peer(DEV) as plum, client("dev", f"{plum.url}/outbound/") as ours:
        perform(ours, "queue")
        assert head(plum.requests[0])[0] == "POST /outbound/webservice/queuecall.php"


def test_dev_has_no_status_and_no_cancelling(nobody: str) -> None:
    with client("dev", nobody) as ours:
        for ask in (lambda: ours.status("1"), lambda: ours.cancel("1/2")):
            with pytest.raises(NotOffered, match="campaign manager"):
                ask()


@pytest.mark.parametrize("call_id", ["", "1/2", "../1", "1?x", "1 2"])
def test_a_call_id_that_plum_never_gave_is_refused(call_id: str, nobody: str) -> None:
    with client("fuse", nobody) as ours, pytest.raises(InvalidRequest, match="call_id should be the id"):
        ours.status(call_id)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "fuse.plumvoice.com",
        "ftp://fuse.plumvoice.com",
        "https://u:p@fuse.plumvoice.com",
        "https://fuse.plumvoice.com/?a",
        "https://fuse.plumvoice.com:x",
        "https://[::1",
        "http:///api",
    ],
)
def test_an_invalid_base_url_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(InvalidRequest, match="base_url should be an address like") as refusal:
        connect("fuse", url, USER, SECRET)
    assert "u:p" not in str(refusal.value)


def test_a_product_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="product should be one of dev, insight, fuse"):
        connect("auto", "https://plum.example", USER, SECRET)
