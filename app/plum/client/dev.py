"""DEV's API: forms with login and PIN. Its XML responses repeat both, so no text of a response is ever shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from app.plum.client.client import Client
from app.plum.client.failures import NotOffered, Refused
from app.plum.client.forms import File, Form
from app.plum.client.responses import (
    CallStatus,
    Fields,
    Reply,
    UnreadableResponse,
    call_id,
    fields_of,
    is_dev_queued,
    is_refused,
)
from app.plum.client.status_codes import check

# https://docs.plumvoice.com/dev/plum-dev-apis/dev-outbound-apis
CALL = "/webservice/queuecall.php"
CAMPAIGN = "/webservice/queuecalls.php"
ACCEPT = "text/xml, application/xml"


class DevClient(Client):
    product = "dev"

    def status(self, call_id: str) -> CallStatus:
        _not_offered("tells no status of a call")

    def cancel(self, to: str) -> None:
        _not_offered("cancels nothing")

    def _queue_call(self, to: str | None, form: Form) -> str:
        return call_id(_queued(self._exchange.send("POST", CALL, ACCEPT, form)), link="")

    def _queue_batch(self, to: str | None, form: Form, files: Mapping[str, File]) -> None:
        _queued(self._exchange.send("POST", CAMPAIGN, ACCEPT, form, files))


def _queued(reply: Reply) -> Fields:
    check(reply, _silent)
    fields = fields_of(reply.body)
    if is_refused(fields):
        raise Refused(
            "Plum refuses (status failed): see that both URLs answer 200 to GET, then login, PIN and number",
            reply.status,
        )
    if not is_dev_queued(fields):
        raise UnreadableResponse("an answer without status queued")
    return fields


def _silent(_: str) -> str:
    return ""


def _not_offered(what: str) -> NoReturn:
    raise NotOffered(f"DEV's API {what}: look into its campaign manager")
