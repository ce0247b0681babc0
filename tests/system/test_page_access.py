"""Signing in and out: what a browser holds, what another site can do with it, and what is logged."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest

from tests.system.browser import COOKIE
from tests.system.conftest import FORM, PHONE, Answer, Sender, Service, dev_body

ENGINE = "sqlite"

FROM_ELSEWHERE = {"Origin": "https://elsewhere.example"}


def form(service: Service, path: str, headers: dict[str, str] | None = None, **fields: str) -> Answer:
    return service.request("POST", path, urlencode(fields).encode(), {"Content-Type": FORM} | (headers or {}))


def cookie(service: Service, token: str | None = None) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={token or service.token}"}


def csrf(service: Service, token: str | None = None) -> str:
    page = service.request("GET", "/calls", None, cookie(service, token)).body.decode()
    return re.search(r'name="csrf" value="(\w+)"', page)[1]


def test_a_page_requires_a_sign_in_and_then_follows(service: Service) -> None:
    asked = service.request("GET", "/calls?status=completed")
    assert (asked.status, asked.headers["Location"]) == (303, "/sign-in?next=/calls?status%3Dcompleted")
    answer = form(service, "/sign-in", token=service.token, next="/calls?status=completed")
    assert (answer.status, answer.headers["Location"]) == (303, "/calls?status=completed")
    attributes = answer.headers["Set-Cookie"].split("; ")
    assert attributes[0] == f"{COOKIE}={service.token}"
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
    assert "Secure" not in attributes  # it came over HTTP


def test_behind_tls_the_cookie_is_for_tls_alone(service: Service) -> None:
    """Only a trusted proxy is believed that there was TLS before it."""
    told = form(service, "/sign-in", {"X-Forwarded-Proto": "https"}, token=service.token)
    assert "Secure" not in told.headers["Set-Cookie"]


def test_a_wrong_token_gets_a_clear_error(service: Service) -> None:
    answer = form(service, "/sign-in", token="mistyped")  # noqa: S106
    assert answer.status == 403
    assert b"This token opens nothing" in answer.body
    assert answer.headers["Set-Cookie"] is None


@pytest.mark.parametrize("onward", ["//elsewhere.example", "https://elsewhere.example", "/\\elsewhere.example", ""])
def test_a_sign_in_leads_to_no_other_site(service: Service, onward: str) -> None:
    assert form(service, "/sign-in", token=service.token, next=onward).headers["Location"] == "/"


@pytest.mark.parametrize(
    "headers", [FROM_ELSEWHERE, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]
)
def test_another_site_signs_nobody_in_and_sends_no_form(service: Service, headers: dict[str, str]) -> None:
    assert form(service, "/sign-in", headers, token=service.token).status == 403
    held = cookie(service)
    assert form(service, "/calls/export", headers | held, csrf=csrf(service)).status == 403
    assert form(service, "/calls/export", held, csrf=csrf(service)).status == 200


def test_a_form_needs_the_mark_of_its_own_sign_in(service: Service, read_token: str) -> None:
    held = cookie(service)
    assert form(service, "/calls/export", held).status == 403
    assert form(service, "/calls/export", held, csrf=csrf(service, read_token)).status == 403
    assert form(service, "/sign-out", held, csrf="é").status == 403


def test_a_form_after_signing_out_is_refused_and_counted(service: Service) -> None:
    answer = form(service, "/views", {}, name="any", asked="")
    assert answer.status == 401
    assert b"nothing was done" in answer.body


def test_signing_out_forgets_the_token(service: Service) -> None:
    answer = form(service, "/sign-out", cookie(service), csrf=csrf(service))
    assert (answer.status, answer.headers["Location"]) == (303, "/sign-in")
    assert re.match(rf"{COOKIE}=; Expires=Thu, 01 Jan 1970", answer.headers["Set-Cookie"])


def test_revoking_the_token_ends_its_sign_ins(service: Service) -> None:
    token = service.new_token("revoked-soon", "read")
    assert service.request("GET", "/calls", None, cookie(service, token)).status == 200
    service.ok("token", "revoke", "revoked-soon")
    service.assert_everywhere_soon(303, "/calls", **cookie(service, token))


def test_the_cookie_reads_the_api_with_masked_numbers_and_changes_nothing(sender: Sender) -> None:
    delivery = sender.assert_accepted(dev_body())
    held = cookie(sender.service)
    read = sender.service.request("GET", f"/api/v1/outcomes?integration={sender.name}", None, held)
    assert read.json()["data"][0]["phone_number"] == "+1617•••1234"
    assert sender.service.request("GET", f"/api/v1/deliveries/{delivery}/body", None, held).status == 403
    assert sender.service.request("POST", "/api/v1/expected-calls", b"[]", held).status == 401


def test_every_page_forbids_scripts_and_styles_of_others(service: Service) -> None:
    for path in ("/sign-in", "/calls", "/calls?nothing=1"):
        policy = service.request("GET", path, None, cookie(service)).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy


def test_looking_for_a_number_and_taking_numbers_out_are_logged(sender: Sender, admin_token: str) -> None:
    sender.assert_accepted(dev_body())
    held = cookie(sender.service)
    sender.service.request("GET", f"/calls?phone_number=%2B{PHONE}&integration={sender.name}", None, held)
    path = f"/calls/export?integration={sender.name}"
    form(sender.service, path, held, csrf=csrf(sender.service), format="csv", reveal="on")
    entries = sender.service.get("audit", admin_token, limit=2).json()["data"]
    assert [entry["what"] for entry in entries] == ["calls.export", "calls.show"]
    assert all(PHONE not in str(entry) for entry in entries)
    assert ["integration", sender.name] in entries[0]["asked"]
