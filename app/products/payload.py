"""Parse a body to names and values: JSON, an urlencoded or multipart form, or XML.

The content type is only a hint; the body itself decides, since PHP's curl labels every string body
`application/x-www-form-urlencoded`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from app.errors import Unreadable
from app.model import Json
from app.products.charsets import charset_of, decoded
from app.products.duplicate_keys import MAX_DEPTH, MAX_VALUES, MORE, Pairs, Surplus
from app.products.forms import boundary_of, read_multipart, read_urlencoded, unescape
from app.values import Written

MAX_WRAPS = 3  # levels of other text around an object's JSON

_TEXT = "#text"  # the field for text between an element's children
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_FORM_START = re.compile(r"[\w.\[\]%+\- ]+=", re.A)


def read(body: bytes, content_type: str | None, names: Container[str]) -> Pairs:
    """Return the body's names and values. Raises `Unreadable` with the reason.

    Fields with one of the `names` are parsed even if they come after the first `MAX_VALUES` fields.
    """
    charset = charset_of(content_type)
    try:
        return _read(body, content_type or "", charset, names)
    except Unreadable:
        if charset is None:
            raise
        return _read(body, content_type or "", None, names)  # decoding in a wrong charset can give nonsense


def parse_json(text: str) -> Json:
    """Parse JSON as PHP and similar senders write it; objects are `Pairs`. Raises `Unreadable`: not_json or too_deep.

    Numbers that no store can hold (NaN, 1e999, thousands of digits) stay text, as sent.
    """
    try:
        value = _JSON.decode(text.strip())
    except RecursionError:
        raise Unreadable("too_deep") from None
    except ValueError:
        raise Unreadable("not_json") from None
    _check_depth(value)
    return value


def _read(body: bytes, content_type: str, charset: str | None, names: Container[str]) -> Pairs:
    text, text_charset = decoded(body, charset)
    first = text.lstrip()[:1]
    if not first:
        raise Unreadable("empty")
    if first in "{[":
        return _object(_json(text))
    if first == "<":
        return _xml(text.strip(), names)
    if (wrapped := _unwrapped_object(text, text_charset, MAX_WRAPS)) is not None:
        return wrapped
    if boundary := boundary_of(body, content_type):
        return _unwrap_only_field(read_multipart(body, boundary, charset))
    if _CONTROL.search(text) and not _FORM_START.match(text.lstrip()):
        raise Unreadable("not_text")
    if "=" in text:
        return read_urlencoded(text, text_charset, names)
    if "json" in content_type.lower():
        return _object(parse_json(text))
    raise Unreadable("not_xml" if "xml" in content_type.lower() else "not_form")


# --- JSON, perhaps within other text


def _unwrapped_object(text: str, charset: str, wraps: int) -> Pairs | None:
    """Return the object in the text, None if there is none.

    The text is JSON, or wraps JSON as a JSON string, percent-encoded, or as the only field of a form.
    """
    text = text.strip(" \t\r\n&")
    if text.startswith(("{", '"')):
        try:
            value = _json(text)
        except Unreadable:
            return None
        if isinstance(value, Pairs):
            return value
        return _unwrapped_object(value, charset, wraps - 1) if wraps and isinstance(value, str) else None
    if not wraps:
        return None
    if text.startswith("%"):
        # JavaScript's encodeURI leaves colons and pluses unescaped; elsewhere a plus means a space.
        content = text.removesuffix("=").replace("+", "%2B" if ":" in text else " ")
    else:
        name, _, value = text.partition("=")
        content = value or name
        if content.startswith(("{", '"')):
            return _unwrapped_object(content, charset, wraps - 1)
        if "&" in content:
            return None
    return _unwrapped_object(unescape(content, charset), charset, wraps - 1)


def _unwrap_only_field(pairs: Pairs) -> Pairs:
    """Return the object in the only field, if there is one; else the fields."""
    match pairs:
        case [(name, str(value))] if (inner := _unwrapped_object(value or name, "utf-8", MAX_WRAPS - 1)) is not None:
            return inner
    return pairs


def _json(text: str) -> Json:
    """Parse the text, also without a final equals sign: JSON that was sent as the name of a form's only field."""
    try:
        return parse_json(text)
    except Unreadable:
        if not text.rstrip().endswith("="):
            raise
        return parse_json(text.rstrip()[:-1])


def _number(literal: str) -> float | str:
    number = float(literal)
    if not math.isfinite(number):
        return literal
    return number if repr(number) == literal else Written(literal)


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


def _xml(text: str, names: Container[str]) -> Pairs:
    """Return the root's children, its attributes and its text."""
    try:
        root = defusedxml.ElementTree.fromstring(text)
    except (ParseError, DefusedXmlException, ValueError):
        raise Unreadable("not_xml") from None
    tree = _Tree(names)
    value, annotations = tree.read(root, 0)
    beyond = [(MORE, Surplus(tree.beyond))] if tree.beyond else []
    return Pairs([*(value if isinstance(value, Pairs) else ()), *annotations, *beyond])


@dataclass(slots=True)
class _Tree:
    """Reads the first `MAX_VALUES` elements, and of the others those with a known name and no children."""

    names: Container[str]
    left: int = MAX_VALUES
    beyond: int = 0

    def read(self, element: Element, depth: int) -> tuple[Json, list[tuple[str, Any]]]:
        """Return the element's value and its annotations.

        The value is an object of the children, a list of items, or the text. Annotations are the attributes, as
        `@attribute`, and the text between the children.
        """
        if depth > MAX_DEPTH:
            raise Unreadable("too_deep")
        annotations = [(f"@{_local(name)}", value) for name, value in element.attrib.items()]
        self.left -= 1 + len(annotations)
        if not len(element):
            return element.text or "", annotations
        if text := _text_between(element):
            annotations.append((_TEXT, text))
        children = [(_local(child.tag), *self.read(child, depth + 1)) for child in element if self._takes(child)]
        if children and all(name == "item" for name, _, _ in children):
            return [Pairs([(_TEXT, value), *more]) if more else value for _, value, more in children], annotations
        fields = Pairs()
        for name, value, more in children:
            fields += [(name, value), *((name + suffix, text) for suffix, text in more)]
        return Pairs([*fields, *annotations]), []

    def _takes(self, child: Element) -> bool:
        is_taken = self.left > 0 or (not len(child) and _local(child.tag).casefold() in self.names)
        self.beyond += not is_taken
        return is_taken


def _text_between(element: Element) -> str:
    pieces = [element.text, *(child.tail for child in element)]
    return " ".join(piece.strip() for piece in pieces if piece and not piece.isspace())


def _local(name: str) -> str:
    return name.rpartition("}")[2]
