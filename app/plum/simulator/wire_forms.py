"""Serialise calls as Plum does.

Plum's pages leave most of a callback's encoding open, so every open question is a knob: fixed to one form, or
drawn at random for each call. This module imports nothing of the receiver, so that it is independent of it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode
from xml.etree import ElementTree

Fields = Mapping[str, Any]  # a callback's fields with Plum's names; None for a value that Plum does not have

T = TypeVar("T")

DRAWN = "drawn"

FORMS: dict[str, dict[str, int]] = {  # knob → its forms, each with its weight when drawn
    "encoding": {
        "json": 60,
        "urlencoded": 12,
        "multipart": 8,
        "events_json": 6,
        "call_details_json": 6,
        "xml": 8,
    },
    "dev_encoding": {"urlencoded": 80, "multipart": 20},
    "content_type": {"right": 60, "wrong": 25, "missing": 15},
    "wrapper": {"bare": 50, "bare_success": 10, "wrapped": 20, "wrapped_success": 20},
    "numbers": {"text": 35, "int": 25, "mixed": 40},
    "absent": {"empty": 45, "missing": 35, "null": 20},
    "start_spelling": {"start_timestamp": 95, "start_Timestamp": 5},
    "fuse_phone": {"quoted": 60, "bare": 40},
    "dev_phone": {
        "national": 40,
        "country": 25,
        "plus": 12,
        "unescaped_plus": 8,
        "tel": 5,
        "tel_parameters": 10,
    },
}

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
XML = "text/xml"

ACKNOWLEDGEMENT = b"completed"

EXPECT_ABOVE_BYTES = 1024  # PHP's curl sends `Expect: 100-continue` with larger bodies


@dataclass(frozen=True)
class Encoding:
    """The forms of one campaign's callbacks, each one of `FORMS` or `DRAWN`.

    `encoding` and `wrapper` (with or without `call_details` around the fields and `success` beside them) are for
    Insight and Fuse, `dev_encoding` is for DEV. `content_type` says whether the header matches the body, `numbers`
    how integers are written, `absent` how a missing value is written. Raises ValueError for a form that is not in
    the table.
    """

    encoding: str = DRAWN
    dev_encoding: str = DRAWN
    content_type: str = DRAWN
    wrapper: str = DRAWN
    numbers: str = DRAWN
    absent: str = DRAWN
    start_spelling: str = DRAWN
    fuse_phone: str = DRAWN
    dev_phone: str = DRAWN

    def __post_init__(self) -> None:
        for knob, forms in FORMS.items():
            if getattr(self, knob) not in (DRAWN, *forms):
                allowed = ", ".join((DRAWN, *forms))
                raise ValueError(f"{knob} is one of {allowed}, not {getattr(self, knob)!r}")

    def drawn(self, rng: random.Random) -> Encoding:
        """Return knobs with a form drawn for each `DRAWN`.

        An unescaped plus exists in urlencoded bodies only, so it overrides `dev_encoding`.
        """
        forms = {knob: getattr(self, knob) for knob in FORMS}
        for knob, form in forms.items():
            if form == DRAWN:
                forms[knob] = choose(rng, FORMS[knob])
        if forms["dev_phone"] == "unescaped_plus":
            forms["dev_encoding"] = "urlencoded"
        return Encoding(**forms)


ANY_FORM = Encoding()


def choose(rng: random.Random, weights: Mapping[T, int]) -> T:
    """Draw one of the keys, by weight."""
    return rng.choices(list(weights), list(weights.values()))[0]


# Phone numbers, from E.164


def dev_phone(number: str, form: str) -> str:
    """Return the number as DEV sends it, after decoding: a plus that was sent unescaped arrives as a space."""
    if form in ("national", "country") and number.startswith("+1"):
        return number[2:] if form == "national" else number[1:]
    return {
        "unescaped_plus": f" {number[1:]}",
        "tel": f"tel:{number}",
        "tel_parameters": f"tel:{number};ani=8009957586;postd=2",
    }.get(form, number)


def fuse_phone(number: str, form: str) -> str:
    """Return the number as Fuse sends it; in Plum's sample it has quotes inside the text."""
    dialled = number.removeprefix("+1")
    return f"'{dialled}'" if form == "quoted" else dialled


# Bodies


def encode(product: str, fields: Fields, forms: Encoding, rng: random.Random) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a callback with these fields; no form may be `DRAWN`."""
    values = _with_forms(fields, forms, rng)
    if product == "dev":
        content_type, body = ENCODERS[forms.dev_encoding](values, "bare")
    else:
        content_type, body = ENCODERS[forms.encoding](values, forms.wrapper)
    return headers(_labelled(content_type, forms.content_type), body), body


def start_post(
    phone_number: str, call_id: str, reference: str, campaign_parameters: str, call_parameters: str
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of DEV's request to start_url when a call connects."""
    fields = {
        "phone_number": phone_number,
        "call_id": call_id,
        "message_reference": reference,
        "campaign_parameters": campaign_parameters,
        "call_parameters": call_parameters,
    }
    body = urlencode(fields).encode()
    return headers(FORM, body), body


def headers(content_type: str | None, body: bytes) -> dict[str, str]:
    """Return the headers that PHP's curl sends with a body."""
    values = {"Accept": "*/*"}
    if content_type is not None:
        values["Content-Type"] = content_type
    if len(body) > EXPECT_ABOVE_BYTES:
        values["Expect"] = "100-continue"
    return values


def _labelled(content_type: str, form: str) -> str | None:
    # A multipart body needs its boundary, which only the right content type contains.
    if form == "right" or content_type.startswith("multipart/"):
        return content_type
    if form == "missing":
        return None
    # PHP's curl labels every string body as a form.
    return "text/plain" if content_type == FORM else FORM


def _with_forms(fields: Fields, forms: Encoding, rng: random.Random) -> dict[str, Any]:
    values = {
        forms.start_spelling if name == "start_timestamp" else name: _numbers(value, forms.numbers, rng)
        for name, value in fields.items()
    }
    if forms.absent == "missing":
        return {name: value for name, value in values.items() if value is not None}
    if forms.absent == "empty":
        return {name: "" if value is None else value for name, value in values.items()}
    return values


def _numbers(value: Any, form: str, rng: random.Random) -> Any:
    if isinstance(value, list):
        return [{name: _numbers(inner, form, rng) for name, inner in item.items()} for item in value]
    if isinstance(value, int) and (form == "text" or (form == "mixed" and rng.random() < 0.5)):
        return str(value)
    return value


def _enveloped(details: Fields, wrapper: str) -> dict[str, Any]:
    envelope = {"call_details": details} if wrapper.startswith("wrapped") else details
    return {"success": True, **envelope} if wrapper.endswith("success") else {**envelope}


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _php_pairs(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield pairs as PHP's `http_build_query` does: brackets for nesting, no nulls, true as 1."""
    if isinstance(value, Mapping | list):
        for name, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _php_pairs(inner, f"{key}[{name}]" if key else str(name))
    elif value is not None:
        yield key, "1" if value is True else str(value)


def as_json(value: Any) -> bytes:
    return _compact(value).encode()


def as_xml(root: str, fields: Fields, attributes: Mapping[str, str] | None = None) -> bytes:
    document = _element(root, fields)
    document.attrib.update(attributes or {})
    text: bytes = ElementTree.tostring(document, encoding="utf-8", xml_declaration=True)
    return text


def _json(details: Fields, wrapper: str) -> tuple[str, bytes]:
    return JSON, as_json(_enveloped(details, wrapper))


def _urlencoded(details: Fields, wrapper: str) -> tuple[str, bytes]:
    return FORM, urlencode(list(_php_pairs(_enveloped(details, wrapper)))).encode()


def _multipart(details: Fields, wrapper: str) -> tuple[str, bytes]:
    pairs = list(_php_pairs(_enveloped(details, wrapper)))
    # A boundary in curl's format, made from the content so that a seed repeats it.
    boundary = "-" * 24 + hashlib.sha256(repr(pairs).encode()).hexdigest()[:16]
    parts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in pairs
    )
    return f"multipart/form-data; boundary={boundary}", f"{parts}--{boundary}--\r\n".encode()


def _events_json(details: Fields, wrapper: str) -> tuple[str, bytes]:
    return _urlencoded({**details, "events": _compact(details["events"])}, wrapper.replace("wrapped", "bare"))


def _call_details_json(details: Fields, _wrapper: str) -> tuple[str, bytes]:
    return _urlencoded({"call_details": _compact(details)}, "bare")


def _xml(details: Fields, wrapper: str) -> tuple[str, bytes]:
    """The XML of the status API, which always has the element `call_details`."""
    return XML, as_xml("result", _enveloped(details, wrapper.replace("bare", "wrapped")))


def _element(tag: str, value: Any) -> ElementTree.Element:
    element = ElementTree.Element(tag)
    if isinstance(value, Mapping):
        element.extend(_element(name, inner) for name, inner in value.items())
    elif isinstance(value, list):
        element.extend(_element("item", inner) for inner in value)
    elif value is not None:
        element.text = str(value).lower() if isinstance(value, bool) else str(value)
    return element


ENCODERS: dict[str, Callable[[Fields, str], tuple[str, bytes]]] = {
    "json": _json,
    "urlencoded": _urlencoded,
    "multipart": _multipart,
    "events_json": _events_json,
    "call_details_json": _call_details_json,
    "xml": _xml,
}
