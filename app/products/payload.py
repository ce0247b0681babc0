"""Bytes to named values, whatever they claim to be: JSON, a form of either kind, or XML.

The content type is a hint and the body's look decides: PHP's curl labels every string body
`application/x-www-form-urlencoded`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from app.errors import Unreadable
from app.model import Json
from app.products.charsets import charset_of, decoded
from app.products.forms import boundary_of, read_multipart, read_urlencoded
from app.products.pairs import MAX_DEPTH, Pairs

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_FORM_START = re.compile(r"[\w.\[\]%+\- ]+=", re.A)


def read(body: bytes, content_type: str | None) -> Pairs:
    """The body's names and values. Raises `Unreadable` with the reason."""
    charset = charset_of(content_type)
    try:
        return _read(body, content_type or "", charset)
    except Unreadable:
        if charset is None:
            raise
        return _read(body, content_type or "", None)  # a wrong charset can decode, to nonsense


def parse_json(text: str) -> Json:
    """JSON as PHP and its like write it; objects are `Pairs`. Raises `Unreadable`: not_json or too_deep.

    Numbers that no store holds (NaN, 1e999, thousands of digits) stay text, as sent.
    """
    try:
        value = _JSON.decode(text.strip())
    except RecursionError:
        raise Unreadable("too_deep") from None
    except ValueError:
        raise Unreadable("not_json") from None
    _check_depth(value)
    return value


def _read(body: bytes, content_type: str, charset: str | None) -> Pairs:
    text, worked = decoded(body, charset)
    look = text.lstrip()[:1]
    if not look:
        raise Unreadable("empty")
    if look in "{[":
        return _object(parse_json(text))
    if look == "<":
        return _xml(text.strip())
    if boundary := boundary_of(body, content_type):
        return read_multipart(body, boundary, charset)
    if _CONTROL.search(text) and not _FORM_START.match(text.lstrip()):
        raise Unreadable("not_text")
    if "=" in text:
        return read_urlencoded(text, worked)
    if "json" in content_type.lower():
        return _object(parse_json(text))
    raise Unreadable("not_xml" if "xml" in content_type.lower() else "not_form")


# --- JSON


def _number(literal: str) -> float | str:
    number = float(literal)
    return number if math.isfinite(number) else literal


def _integer(literal: str) -> int | str:
    try:
        return int(literal)
    except ValueError:  # more digits than Python converts
        return literal


_JSON = json.JSONDecoder(
    object_pairs_hook=Pairs, parse_float=_number, parse_int=_integer, parse_constant=str, strict=False
)


def _object(value: Json) -> Pairs:
    if not isinstance(value, Pairs):
        raise Unreadable("no_known_field")
    return value


def _check_depth(value: Json) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level if isinstance(parent, list) for child in _children(parent)]
        if not level:
            return
    raise Unreadable("too_deep")


def _children(parent: list[Any]) -> Iterable[Json]:
    return [value for _, value in parent] if isinstance(parent, Pairs) else parent


# --- XML


def _xml(text: str) -> Pairs:
    try:
        value = _element(defusedxml.ElementTree.fromstring(text), 0)
    except (ParseError, DefusedXmlException, ValueError):
        raise Unreadable("not_xml") from None
    return value if isinstance(value, Pairs) else Pairs()


def _element(element: Element, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise Unreadable("too_deep")
    children = [(child.tag.rpartition("}")[2], _element(child, depth + 1)) for child in element]
    if not children:
        return element.text or ""
    if all(name == "item" for name, _ in children):
        return [value for _, value in children]
    return Pairs(children)
