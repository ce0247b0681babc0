"""Who may post besides knowing a key, and what becomes of posts that were refused for who sent them."""

from __future__ import annotations

import base64
import json
from itertools import count
from urllib.parse import quote

import pytest

from tests.conftest import wait_until
from tests.system.conftest import FORM, REVOKED_SECONDS, Answer, Sender, Service, dev_body
from tests.system.faults import metric

ENGINE = "postgresql"

NAMES = count()


@pytest.fixture
def guarded(service: Service) -> Sender:
    return service.sender(f"guarded-{next(NAMES)}")


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def refused_count(service: Service, reason: str) -> float:
    return metric(service, f'plum_refused_total{{reason="{reason}"}}')


def eventually(sender: Sender, status: int, **headers: str) -> Answer:
    def answered() -> bool:
        return {one.status for one in sender.service.through_each_worker("GET", sender.path, **headers)} == {status}

    wait_until(answered, REVOKED_SECONDS)
    return sender.service.request("GET", sender.path, None, headers)


def test_an_integration_may_ask_for_a_password(guarded: Sender) -> None:
    service = guarded.service
    made = service.json("integration", "access", guarded.name, "--password")
    password = service.know(made["password"])
    answer = eventually(guarded, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    before = refused_count(service, "wrong_password")
    for wrong in (
        {},
        basic(guarded.name, "wrong"),
        basic("other", password),
        {"Authorization": f"Bearer {password}"},
        {"Authorization": "Basic é&%"},
        {"Authorization": "Basic"},
    ):
        assert guarded.post(dev_body(), **wrong).status == 401
    assert refused_count(service, "wrong_password") == before + 6
    guarded.assert_nothing_stored()
    guarded.post(dev_body(), **basic(guarded.name, password)).assert_completed()
    assert guarded.outcome()["call_id"] == "112850593"
    [delivery] = guarded.deliveries()
    assert password not in json.dumps(delivery)
    service.ok("integration", "access", guarded.name, "--no-password")
    eventually(guarded, 200)


def test_an_integration_may_name_the_networks_that_post(guarded: Sender) -> None:
    service = guarded.service
    told = service.json("integration", "access", guarded.name, "--allow-from", "203.0.113.0/24,2001:db8::/32")
    assert told["allowed_from"] == "203.0.113.0/24,2001:db8::/32"
    eventually(guarded, 403)
    assert guarded.post(dev_body()).status == 403
    assert guarded.post(dev_body(), **{"X-Forwarded-For": "203.0.113.7"}).status == 403  # of no trusted proxy
    guarded.assert_nothing_stored()
    service.ok("integration", "access", guarded.name, "--allow-from", "203.0.113.0/24,127.0.0.0/8")
    eventually(guarded, 200)
    guarded.assert_accepted(dev_body())
    assert service.json("integration", "access", guarded.name, "--allow-from", "any")["allowed_from"] is None


def test_invalid_networks_and_integrations_are_refused_in_one_line(service: Service) -> None:
    service.assert_one_line("integration", "access", "nobody", "--allow-from", "any", says="nobody")
    service.assert_one_line("integration", "access", "nobody", says="nobody")
    for wrong in ("everywhere", "", ","):
        service.assert_one_line("integration", "access", "one", "--allow-from", wrong, says="198.51.100.0/24")


def entries(service: Service, cause: str) -> list[dict]:
    return [entry for entry in service.json("refused", "list") if entry["cause"] == cause]


def test_a_result_under_a_key_that_was_disabled_is_taken_once_it_opens_again(guarded: Sender) -> None:
    service = guarded.service
    service.ok("integration", "disable", guarded.name)
    eventually(guarded, 404)
    assert guarded.post(dev_body(call_id="late"), below="/call/appt%2F7?x=1").status == 404
    [entry] = [one for one in entries(service, "unknown_key") if one["size"] == len(dev_body(call_id="late"))]
    assert entry["integration"] is None
    assert service.json("refused", "retry")["of_nobody"] >= 1
    service.ok("integration", "enable", guarded.name)
    assert service.json("refused", "retry")["applied"] == 1
    taken = guarded.outcome()
    assert (taken["call_id"], taken["reference"]) == ("late", "appt/7")
    [delivery] = guarded.deliveries()
    assert (delivery["id"], delivery["via"]) == (entry["id"], "import")
    assert delivery["received_at"].rstrip("Z") in entry["received_at"].rstrip("Z")
    assert service.json("refused", "retry")["known"] >= 1
    assert len(guarded.deliveries()) == 1


def test_a_result_under_a_mistyped_key_is_taken_for_the_integration_that_is_named(guarded: Sender) -> None:
    service = guarded.service
    body = dev_body(call_id="mistyped", note="only here")
    answer = service.request("POST", f"/result/{guarded.key[:-1]}", body, {"Content-Type": FORM})
    assert answer.status == 404
    [entry] = [one for one in entries(service, "unknown_key") if one["size"] == len(body)]
    service.assert_one_line("refused", "retry", "--integration", guarded.name, says="IDs")
    done = service.json("refused", "retry", "--integration", guarded.name, entry["id"])
    assert done["applied"] == 1
    assert guarded.outcome()["call_id"] == "mistyped"


def test_posts_without_the_password_are_accepted_only_by_id(guarded: Sender) -> None:
    service = guarded.service
    service.know(service.json("integration", "access", guarded.name, "--password")["password"])
    eventually(guarded, 401)
    body = dev_body(call_id="without-password")
    assert guarded.post(body).status == 401
    [entry] = [one for one in entries(service, "wrong_password") if one["size"] == len(body)]
    assert entry["integration"] == guarded.name
    service.json("refused", "retry")
    guarded.assert_nothing_stored()
    assert service.json("refused", "retry", entry["id"])["applied"] == 1
    assert guarded.outcome()["call_id"] == "without-password"


@pytest.mark.parametrize(
    "path", ["/result/KEY", "/result/wrong", "/livez", "/readyz", "/metrics", "/nowhere", "/api/v1/x"]
)
def test_every_response_forbids_caching_and_sniffing(service: Service, path: str) -> None:
    answer = service.request("GET", path.replace("KEY", service.one.key))
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_after_a_hostile_hour_no_log_and_no_metric_holds_a_key_a_token_or_a_number(service: Service) -> None:
    key, token = service.one.key, service.token
    number = "+16175551234"
    targets = [f"/result/{key}/{quote(number)}", f"/result/{key}%00", f"/result/{key}?to={quote(number)}", f"/{key}"]
    targets += [
        f"/api/v1/outcomes/{token}",
        f"/api/v1/outcomes?phone_number={quote(number)}&x={token}",
        f"/start/{key}/{token}",
    ]
    headers = [
        {"Authorization": f"Bearer {token}x"},
        {"Authorization": f"Basic {token}"},
        {"Cookie": f"session={token}", "Referer": f"http://x/{key}/{number}"},
        {"Content-Type": f"text/{number}", "X-Forwarded-For": number},
        {"Content-Length": number},
        {"Transfer-Encoding": token},
        {"Expect": key},
    ]
    bodies = [b"", number.encode(), f"result={key}&phone_number={number}".encode(), b"\xff" + token.encode()]
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        for target in targets:
            for given in headers:
                body = bodies[(len(target) + len(method)) % len(bodies)] if method != "GET" else None
                service.request(method, target, body, given)
    for secret in (key, token, number[1:], number[2:]):
        assert secret not in service.stderr
        assert secret not in service.request("GET", "/metrics").body.decode()
