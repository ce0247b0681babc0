"""The APIs of Insight and Fuse, which are alike: Basic authentication, responses in JSON or XML, calls with ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from app.plum.client.client import Client
from app.plum.client.failures import InvalidRequest, Refused
from app.plum.client.forms import FORM_TYPE, File, Form
from app.plum.client.limits import check_to
from app.plum.client.responses import (
    CallStatus,
    Fields,
    Reply,
    UnreadableResponse,
    call_id,
    call_status,
    error_text,
    fields_of,
    is_refused,
)
from app.plum.client.status_codes import check

# https://docs.plumvoice.com/insight/api · https://docs.plumvoice.com/fuse/apis/outbound-calls
FOLDERS = {"insight": "surveys", "fuse": "apps"}
ACCEPT = "application/json"
CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class InsightFuseClient(Client):
    def status(self, call_id: str) -> CallStatus:
        if not CALL_ID.fullmatch(call_id):
            raise InvalidRequest("call_id", "the id that Plum gave when the call was queued")
        return self._patience.ask(lambda: self._status(call_id))

    def cancel(self, to: str) -> None:
        check_to(self.product, to)
        self._change("the calls may be canceled", lambda: self._cancel(to))

    def _status(self, call_id: str) -> CallStatus:
        reply = self._exchange.send("GET", f"/api/outbound/{quote(call_id)}", ACCEPT)
        check(reply, self._credentials.harmless, is_call=True)
        return call_status(reply)

    def _cancel(self, to: str) -> None:
        # Insight responds 415 without this header, although the request has no body.
        reply = self._exchange.send("DELETE", self._path(to, "cancel"), ACCEPT, headers={"Content-Type": FORM_TYPE})
        self._accepted(reply)

    def _queue_call(self, to: str | None, form: Form) -> str:
        reply = self._exchange.send("POST", self._path(to, "queue"), ACCEPT, form)
        return call_id(self._accepted(reply), reply.link)

    def _queue_batch(self, to: str | None, form: Form, files: Mapping[str, File]) -> None:
        self._accepted(self._exchange.send("POST", self._path(to, "bulk_queue"), ACCEPT, form, files))

    def _path(self, to: str | None, verb: str) -> str:
        return f"/api/{FOLDERS[self.product]}/{to}/{verb}"

    def _accepted(self, reply: Reply) -> Fields:
        """Return the fields of a response that accepts a change; its body may be empty.

        Raises `UnreadableResponse` or a public exception.
        """
        check(reply, self._credentials.harmless)
        fields = fields_of(reply.body) if reply.body.strip() else {}
        if is_refused(fields):
            reason = self._credentials.harmless(error_text(reply.body)) or "it does not say why"
            if (fields.get("call_id") or "0") != "0":  # not a certain refusal: to queue it again could call twice
                raise UnreadableResponse(f"a call_id and an error ({reason})")
            raise Refused(f"Plum answers {reply.status} and refuses: {reason}", reply.status)
        return fields


class InsightClient(InsightFuseClient):
    product = "insight"


class FuseClient(InsightFuseClient):
    product = "fuse"
