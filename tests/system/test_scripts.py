"""What a call hears when it connects: its integration's script, with what Plum says of the call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import Cluster, wait_until
from tests.system.conftest import FORM, Answer, Sender, Service
from tests.system.faults import kill, running, stopped
from tests.system.test_start import FIELDS, VXML, assert_ends_the_call, path, start

ENGINE = "sqlite"

REACHES_SECONDS = 5  # the contract's
SCRIPT = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<vxml version="2.1" xmlns="http://www.w3.org/2001/vxml"><form><block>'
    + "".join(f"<log a='{{{{ {name} }}}}' b=\"{{{{{name}}}}}\">{{{{ {name} }}}}</log>" for name in FIELDS)
    + "é🙂</block></form></vxml>\n"
)


def store_script(sender: Sender, script: str) -> None:
    sender.service.ok("integration", "script", sender.name, "-", stdin=script)


def heard(answer: Answer, *verdict: str) -> dict[str, str]:
    """What the script said of each field, the same in a text and in attributes of either quote."""
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/voicexml+xml")
    assert answer.headers.get_all("X-Delivery-Verdict", []) == list(verdict)
    found = {}
    for name, log in zip(FIELDS, ElementTree.fromstring(answer.body).iter(f"{VXML}log"), strict=True):  # noqa: S314
        assert log.get("a") == log.get("b") == (log.text or "")
        found[name] = log.text or ""
    return found


def wait_until_heard(sender: Sender, script: str | None) -> None:
    """Each worker answers the probe with it."""

    def is_heard() -> bool:
        answers = sender.service.through_each_worker("GET", path(sender))
        return {answer.body for answer in answers} == {_with_nothing(script) if script else b"completed"}

    wait_until(is_heard, REACHES_SECONDS)


def _with_nothing(script: str) -> bytes:
    return re.sub(r"\{\{.*?\}\}", "", script).encode()


@pytest.fixture(scope="session")
def scripted(service: Service) -> Sender:
    made = service.sender("scripted", "dev")
    store_script(made, SCRIPT)
    wait_until_heard(made, SCRIPT)
    return made


@pytest.fixture
def sender(scripted: Sender) -> Iterator[Sender]:
    scripted.forget()
    return scripted


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("end", ["", "/"])
def test_a_probe_gets_the_script_without_values_and_stores_nothing(sender: Sender, method: str, end: str) -> None:
    answer = sender.service.request(method, path(sender) + end)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/voicexml+xml")
    assert answer.body == (b"" if method == "HEAD" else _with_nothing(SCRIPT))
    assert int(answer.headers["Content-Length"]) == len(_with_nothing(SCRIPT))
    assert sender.service.request("HEAD", f"{path(sender)}?call_id=1").headers.get("X-Delivery-Id") is None
    sender.assert_nothing_stored()


def test_a_result_is_acknowledged_as_ever(sender: Sender) -> None:
    sender.service.request("GET", sender.path).assert_completed()
    sender.assert_accepted(b"result=Completed&call_id=1")


def test_a_script_contains_the_values_that_plum_sends(sender: Sender) -> None:
    assert heard(start(sender), "started") == FIELDS
    asked = sender.service.request("GET", f"{path(sender)}?{urlencode(FIELDS)}")
    assert heard(asked, "started") == FIELDS
    posted = sender.service.request("POST", path(sender), json.dumps(FIELDS).encode(), {"Content-Type": "text/plain"})
    assert heard(posted, "started") == FIELDS
    assert len(sender.deliveries(verdict="started")) == 3


def test_a_starts_missing_form_fields_come_from_its_query(sender: Sender) -> None:
    where = f"{path(sender)}?{urlencode({'CALL_ID': '2', 'campaign_parameters': 'b', 'message_reference': 'c'})}"
    said = heard(
        sender.service.request("POST", where, b"call_id=1&message_reference=", {"Content-Type": FORM}), "started"
    )
    assert said == dict.fromkeys(FIELDS, "") | {"call_id": "1", "campaign_parameters": "b", "message_reference": "c"}


@pytest.mark.parametrize("body", [b"\xff\x00", b"x", b"{", b"<a>", b"--B", b"["])
def test_an_unreadable_start_has_no_values(sender: Sender, body: bytes) -> None:
    answer = sender.service.request("POST", path(sender), body)
    assert set(heard(answer, "started").values()) == {""}
    assert sender.body_of(answer.headers["X-Delivery-Id"]) == body


@given(value=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60), asked=st.booleans())
@example(value="'\"><&amp;]]>--><!--{{ phone_number }}\t\r\n\x00\x0b\ufffe", asked=True)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_breaks_a_script(scripted: Sender, value: str, asked: bool) -> None:
    sent = urlencode(dict.fromkeys(FIELDS, value))
    where = f"{path(scripted)}?{sent}" if asked else path(scripted)
    answer = scripted.service.request(
        *(("GET", where) if asked else ("POST", where, sent.encode(), {"Content-Type": FORM}))
    )
    allowed = re.sub(r"[^\t\n\r\x20-\ufffd\U00010000-\U0010ffff]", "\ufffd", value)
    assert heard(answer, "started") == dict.fromkeys(FIELDS, allowed)


def test_a_script_reaches_all_workers_in_time_and_so_does_its_end(service: Service) -> None:
    sender = service.sender("changing")
    other = SCRIPT.replace("2.1", "2.0")
    for script in (SCRIPT, other):
        store_script(sender, script)
        wait_until_heard(sender, script)
        assert service.ok("integration", "script", "changing") == script
    service.ok("integration", "disable", "changing")
    service.assert_everywhere_soon(404, path(sender))
    service.ok("integration", "enable", "changing")
    wait_until_heard(sender, other)
    service.ok("integration", "script", "changing", "--remove")
    wait_until_heard(sender, None)
    assert_ends_the_call(start(sender))


def test_a_new_url_has_the_script_of_the_old_one(sender: Sender) -> None:
    key = sender.service.json("integration", "rotate", sender.name)["key"]
    rotated = Sender(sender.service, sender.name, sender.service.know(key), "")
    assert heard(start(rotated), "started") == heard(start(sender), "started") == FIELDS


def test_scripts_are_stored_shown_and_listed(service: Service, tmp_path: Path) -> None:
    service.sender("shown")
    (tmp_path / "welcome.vxml").write_bytes(b"\xef\xbb\xbf" + SCRIPT.encode())
    assert service.json("integration", "script", "shown") == {"name": "shown", "script": None}
    assert service.ok("integration", "script", "shown") == ""
    assert "5 s" in service.ok("integration", "script", "shown", str(tmp_path / "welcome.vxml"))
    assert service.json("integration", "script", "shown") == {"name": "shown", "script": SCRIPT}
    assert {one["script"] for one in service.json("integration", "list") if one["name"] == "shown"} == {"own"}
    removed = service.json("integration", "script", "shown", "--remove")
    assert removed == {"name": "shown", "script": None}
    assert {one["script"] for one in service.json("integration", "list") if one["name"] == "shown"} == {"default"}


def test_changes_of_a_script_are_in_the_audit_log(service: Service) -> None:
    service.sender("audited")
    store_script(Sender(service, "audited", "", ""), SCRIPT)
    service.ok("integration", "script", "audited")
    service.ok("integration", "script", "audited", "--remove")
    entries = service.get("audit", service.admin_token, what="integration script").json()["data"]
    asked = [one["asked"] for one in entries if ["name", "audited"] in one["asked"]]
    assert asked == [[["name", "audited"], ["script", kind]] for kind in ("default", "own")]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("<vxml>", r"not well-formed XML.*line 1"),
        ("<html/>", r'root has to be <vxml version="2\.0"'),
        (
            SCRIPT.replace("call_id", "caller"),
            r"line 2: \{\{ caller \}\} is unknown; there are phone_number, call_id",
        ),
        (SCRIPT.replace("é", "<!-- {{ call_id }} -->"), r"line 2: \{\{ call_id \}\} may not stand in .* a comment"),
        (SCRIPT.replace("é", "x" * 65536), r"larger than 65536 bytes"),
    ],
)
def test_an_invalid_script_is_refused_in_one_line_and_changes_nothing(
    sender: Sender, tmp_path: Path, script, says
) -> None:
    (tmp_path / "script.vxml").write_text(script)
    sender.service.assert_one_line("integration", "script", sender.name, str(tmp_path / "script.vxml"), says=says)
    assert sender.service.ok("integration", "script", sender.name) == SCRIPT


def test_a_script_that_cannot_be_had_is_named(service: Service, tmp_path: Path) -> None:
    service.assert_one_line("integration", "script", "one", str(tmp_path / "missing.vxml"), says="missing.vxml")
    service.assert_one_line("integration", "script", "nobody", says="no integration is named nobody")
    service.assert_one_line("integration", "script", "nobody", "--remove", says="no integration is named nobody")


def test_calls_hear_their_script_while_the_store_is_away_after_a_restart_too(own: Cluster, tmp_path: Path) -> None:
    with running(own.create(), tmp_path, worker_count=1) as sender:
        store_script(sender, SCRIPT)
        wait_until_heard(sender, SCRIPT)
        with stopped(own):
            assert heard(start(sender), "spooled") == FIELDS
            kill(sender.service)
            sender.service.start()
            wait_until_heard(sender, SCRIPT)
            assert heard(start(sender), "spooled") == FIELDS
