"""Parse Plum's responses, JSON or XML. Pure; of Plum's texts only the documented `error` is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

Fields = Mapping[str, Any]

# Only these words mean that a call has ended; any other word counts as running. To take a running call for ended
# would lose its result; to take an ended call for running only costs another request.
FINAL_WORDS = {"completed", "failed", "canceled", "cancelled", "rejected", "uncalled", "noattempt"}

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LINKED_ID = re.compile(r"/api/outbound/([A-Za-z0-9_-]{1,64})/?(?=[>?#]|$)")


class UnreadableResponse(Exception):
    """No usable response arrived; the message says what arrived. `retry_after_seconds` is the time Plum asks for."""

    def __init__(self, text: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Reply:
    """One response. Its body may repeat login, PIN and phone, so no repr shows it. `link` is the `Link` header."""

    status: int
    body: bytes = field(repr=False)
    content_type: str | None = None
    link: str = ""
    location: str = field(default="", repr=False)
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class CallStatus:
    """The status of one call at one moment: the exact bytes, as a delivery keeps them, and the `status` word.

    `is_final` is true if nothing more will happen to the call; false for every word that is not known to be final.
    """

    body: bytes = field(repr=False)
    content_type: str | None
    word: str
    is_final: bool


def fields_of(body: bytes) -> Fields:
    """Return the object in the body; for XML, the root's attributes and children. Raises `UnreadableResponse`."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        raise UnreadableResponse("an empty answer")
    return _xml(text) if text.startswith(b"<") else _json(text)


def _json(text: bytes) -> Fields:
    try:
        value = json.loads(_decoded(text), parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise UnreadableResponse("an answer that is neither JSON nor XML, or not to its end") from None
    return value if isinstance(value, dict) else {}


def _decoded(text: bytes) -> str:
    try:
        return text.decode(json.detect_encoding(text))
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _xml(text: bytes) -> Fields:
    if re.match(rb"<(!doctype\s+)?html", text, re.I):
        raise UnreadableResponse("a page of HTML")
    try:
        root = ElementTree.fromstring(text)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise UnreadableResponse("XML that cannot be read, or not to its end") from None
    if root.tag.rpartition("}")[2].lower() == "html":
        raise UnreadableResponse("a page of HTML")
    return {**root.attrib, **_children(root)}


def _children(element: Element) -> Fields:
    return {child.tag: _children(child) if len(child) else (child.text or "").strip() for child in element}


def is_refused(fields: Fields) -> bool:
    """True if the body refuses the request, whatever the HTTP status; DEV refuses in its `status`."""
    word = _word(fields.get("status"))
    return _word(fields.get("success")) in ("false", "0") or bool(fields.get("error")) or word == "failed"


def error_text(body: bytes) -> str:
    """Return the documented `error` of Insight and Fuse, "" if there is none."""
    try:
        error = fields_of(body).get("error")
    except UnreadableResponse:
        return ""
    return error if isinstance(error, str) else ""


def call_id(fields: Fields, link: str) -> str:
    """Return the call id from the body, else from the `Link` header. Raises `UnreadableResponse` without one."""
    value = fields.get("call_id")
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    if match := _LINKED_ID.search(link):
        return match[1]
    raise UnreadableResponse("an answer without a call_id")


def call_status(reply: Reply) -> CallStatus:
    """Return the status in the response. Raises `UnreadableResponse` if the response has no `call_details`."""
    details = fields_of(reply.body).get("call_details")
    if not isinstance(details, dict):
        raise UnreadableResponse("an answer without call_details")
    word = _word(details.get("status"))
    return CallStatus(reply.body, reply.content_type, word, word in FINAL_WORDS)


def is_dev_queued(fields: Fields) -> bool:
    return _word(fields.get("status")) == "queued"


def _word(value: Any) -> str:
    return str(value).strip().lower() if isinstance(value, str | bool) else ""
