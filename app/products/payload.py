"""Bytes to named values, whatever they claim to be: JSON, a form of either kind, or XML.

The content type is a hint and the body's look decides: PHP's curl labels every string body
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
from app.products.duplicate_keys import MAX_DEPTH, MAX_VALUES, MORE, Pairs, Rest
from app.products.forms import boundary_of, read_multipart, read_urlencoded, unescape
from app.values import Written

MAX_WRAPS = 3  # of an object's JSON in other text

_TEXT = "#text"  # what stands between an element's children
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_FORM_START = re.compile(r"[\w.\[\]%+\- ]+=", re.A)


def read(body: bytes, content_type: str | None, names: Container[str]) -> Pairs:
    """The body's names and values. Raises `Unreadable` with the reason.

    `names` count wherever they stand among more fields than are read one by one.
    """
    charset = charset_of(content_type)
    try:
        return _read(body, content_type or "", charset, names)
    except Unreadable:
        if charset is None:
            raise
        return _read(body, content_type or "", None, names)  # a wrong charset can decode, to nonsense


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


def _read(body: bytes, content_type: str, charset: str | None, names: Container[str]) -> Pairs:
    text, worked = decoded(body, charset)
    look = text.lstrip()[:1]
    if not look:
        raise Unreadable("empty")
    if look in "{[":
        return _object(_json(text))
    if look == "<":
        return _xml(text.strip(), names)
    if (wrapped := _within(text, worked, MAX_WRAPS)) is not None:
        return wrapped
    if boundary := boundary_of(body, content_type):
        return _sole(read_multipart(body, boundary, charset))
    if _CONTROL.search(text) and not _FORM_START.match(text.lstrip()):
        raise Unreadable("not_text")
    if "=" in text:
        return read_urlencoded(text, worked, names)
    if "json" in content_type.lower():
        return _object(parse_json(text))
    raise Unreadable("not_xml" if "xml" in content_type.lower() else "not_form")


# --- JSON, perhaps within other text


def _within(text: str, charset: str, wraps: int) -> Pairs | None:
    """The object whose JSON the text is, or holds as a JSON string, percent-encoded or as the one field of a form."""
    text = text.strip(" \t\r\n&")
    if text.startswith(("{", '"')):
        try:
            value = _json(text)
        except Unreadable:
            return None
        if isinstance(value, Pairs):
            return value
        return _within(value, charset, wraps - 1) if wraps and isinstance(value, str) else None
    if not wraps:
        return None
    if text.startswith("%"):
        # As JavaScript's encodeURI writes it, which leaves colons, a plus is one; elsewhere it is a space.
        held = text.removesuffix("=").replace("+", "%2B" if ":" in text else " ")
    else:
        name, _, value = text.partition("=")
        held = value or name
        if held.startswith(("{", '"')):
            return _within(held, charset, wraps - 1)
        if "&" in held:
            return None
    return _within(unescape(held, charset), charset, wraps - 1)


def _sole(pairs: Pairs) -> Pairs:
    """The object that the one field holds, if it does; else the fields."""
    match pairs:
        case [(name, str(value))] if (held := _within(value or name, "utf-8", MAX_WRAPS - 1)) is not None:
            return held
    return pairs


def _json(text: str) -> Json:
    """The text, or what stands before an equals sign: JSON that was sent as the name of a form's one field."""
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
    """The root's children, and what it has besides."""
    try:
        root = defusedxml.ElementTree.fromstring(text)
    except (ParseError, DefusedXmlException, ValueError):
        raise Unreadable("not_xml") from None
    tree = _Tree(names)
    value, beside = tree.read(root, 0)
    beyond = [(MORE, Rest(tree.beyond))] if tree.beyond else []
    return Pairs([*(value if isinstance(value, Pairs) else ()), *beside, *beyond])


@dataclass(slots=True)
class _Tree:
    """As many elements as are read one by one, and beyond them those of known names that hold text alone."""

    names: Container[str]
    left: int = MAX_VALUES
    beyond: int = 0

    def read(self, element: Element, depth: int) -> tuple[Json, list[tuple[str, Any]]]:
        """An object of the children, a list of items, or the text; and what has no place there, by `@attribute`."""
        if depth > MAX_DEPTH:
            raise Unreadable("too_deep")
        beside = [(f"@{_local(name)}", value) for name, value in element.attrib.items()]
        self.left -= 1 + len(beside)
        if not len(element):
            return element.text or "", beside
        if text := _text_between(element):
            beside.append((_TEXT, text))
        children = [(_local(child.tag), *self.read(child, depth + 1)) for child in element if self._takes(child)]
        if children and all(name == "item" for name, _, _ in children):
            return [Pairs([(_TEXT, value), *more]) if more else value for _, value, more in children], beside
        fields = Pairs()
        for name, value, more in children:
            fields += [(name, value), *((name + mark, said) for mark, said in more)]
        return Pairs([*fields, *beside]), []

    def _takes(self, child: Element) -> bool:
        is_taken = self.left > 0 or (not len(child) and _local(child.tag).casefold() in self.names)
        self.beyond += not is_taken
        return is_taken


def _text_between(element: Element) -> str:
    pieces = [element.text, *(child.tail for child in element)]
    return " ".join(piece.strip() for piece in pieces if piece and not piece.isspace())


def _local(name: str) -> str:
    return name.rpartition("}")[2]
