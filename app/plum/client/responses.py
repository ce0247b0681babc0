"""Plum's answers, understood: JSON and XML alike. Pure; of a text of Plum's only the documented `error` is kept."""

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

# Only these words end a call. Any other counts as running: who takes a running call for ended loses its result, and
# who takes an ended one for running asks once more.
FINAL_WORDS = {"completed", "failed", "canceled", "cancelled", "rejected", "uncalled", "noattempt"}

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LINKED_ID = re.compile(r"/api/outbound/([A-Za-z0-9_-]{1,64})/?(?=[>?#]|$)")


class Unclear(Exception):
    """No usable answer came; the text says what came instead. `retry_after_seconds` is what Plum asks for."""

    def __init__(self, text: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. Its body may repeat login, PIN and phone, and is in no repr; `link` is the header of that name."""

    status: int
    body: bytes = field(repr=False)
    content_type: str | None = None
    link: str = ""
    location: str = field(default="", repr=False)
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class CallStatus:
    """What Plum tells of one call at this moment: the exact bytes, as a delivery keeps them, and its `status` word.

    `is_final` says that nothing more will happen to the call; false for every word that is not known to be final.
    """

    body: bytes = field(repr=False)
    content_type: str | None
    word: str
    is_final: bool


def fields_of(body: bytes) -> Fields:
    """The object in the body; of XML the attributes of its root and its children. Raises `Unclear`."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        raise Unclear("an empty answer")
    return _xml(text) if text.startswith(b"<") else _json(text)


def _json(text: bytes) -> Fields:
    try:
        found = json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise Unclear("an answer that is neither JSON nor XML, or not to its end") from None
    return found if isinstance(found, dict) else {}


def _xml(text: bytes) -> Fields:
    if re.match(rb"<(!doctype\s+)?html", text, re.I):
        raise Unclear("a page of HTML")
    try:
        root = ElementTree.fromstring(text)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise Unclear("XML that cannot be read, or not to its end") from None
    if root.tag.rpartition("}")[2].lower() == "html":
        raise Unclear("a page of HTML")
    return {**root.attrib, **_children(root)}


def _children(element: Element) -> Fields:
    return {child.tag: _children(child) if len(child) else (child.text or "").strip() for child in element}


def is_refused(fields: Fields) -> bool:
    """Whether the body says no, whatever the status of HTTP; DEV does so in its `status`."""
    word = _word(fields.get("status"))
    return _word(fields.get("success")) in ("false", "0") or bool(fields.get("error")) or word == "failed"


def error_text(body: bytes) -> str:
    """The documented `error` of Insight and Fuse, "" if there is none."""
    try:
        error = fields_of(body).get("error")
    except Unclear:
        return ""
    return error if isinstance(error, str) else ""


def call_id(fields: Fields, link: str) -> str:
    """From the body, else from the `Link` header; raises `Unclear` where neither has it."""
    found = fields.get("call_id")
    if isinstance(found, str) and _ID.fullmatch(found):
        return found
    if linked := _LINKED_ID.search(link):
        return linked[1]
    raise Unclear("an answer without a call_id")


def call_status(reply: Reply) -> CallStatus:
    """Raises `Unclear` where the answer does not tell of a call."""
    details = fields_of(reply.body).get("call_details")
    if not isinstance(details, dict):
        raise Unclear("an answer without call_details")
    word = _word(details.get("status"))
    return CallStatus(reply.body, reply.content_type, word, word in FINAL_WORDS)


def is_dev_queued(fields: Fields) -> bool:
    return _word(fields.get("status")) == "queued"


def _word(value: Any) -> str:
    return str(value).strip().lower() if isinstance(value, str | bool) else ""
