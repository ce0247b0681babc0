"""Bytes to named values, whatever they claim to be: JSON, a form of either kind, or XML.

The content type is a hint and the body's look decides: PHP's curl labels every string body
`application/x-www-form-urlencoded`. Objects come out as `Pairs`, since a name may stand twice and both values
are evidence. Forms are parsed here and not by the web framework, whose limits refuse or swallow real posts.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from email.message import Message
from email.parser import BytesParser
from email.policy import Compat32
from typing import Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from app.errors import Unreadable
from app.model import Json

MAX_DEPTH = 64

# Python calls these encodings, but they transform text; two of them take quadratic time.
_NO_CHARSETS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"}
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s;\"']+)", re.I)
_MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = ("utf-16", "utf-32")
_BOUNDARY = re.compile(r"boundary\s*=\s*(?:\"([^\"]+)\"|([^\s;]+))", re.I)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_FORM_START = re.compile(r"[\w.\[\]%+\- ]+=", re.A)
_NAME = re.compile(r";\s*name\s*=\s*(?:\"((?:[^\"\\]|\\.)+)\"|([^\s;\"]+))", re.I)
_QUOTED_PAIR = re.compile(r"\\(.)")
_BRACKETED = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])+)")


Twice = Callable[[str, list[Json]], None]


class _AsSent(Compat32):
    """Headers whose bytes can be had back; the parser's own way replaces what is not ASCII."""

    def header_fetch_parse(self, name: str, value: str) -> str:
        return value


class Pairs(list[tuple[str, Any]]):
    """An object as sent: names in order, repeated ones too."""


def read(body: bytes, content_type: str | None) -> Pairs:
    """The body's names and values. Raises `Unreadable` with the reason."""
    charset = _charset(content_type)
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


def plain(value: Json, path: str = "", twice: Twice | None = None) -> Json:
    """The value with dicts for `Pairs`; a name given twice with different values holds the list of them.

    `twice` is told of each such name, as it stands below `path`, and its values.
    """
    if isinstance(value, Pairs):
        given: dict[str, list[Json]] = {}
        for name, item in value:
            given.setdefault(name, []).append(plain(item, f"{path}.{name}", twice))
        return {name: _one_or_all(f"{path}.{name}", items, twice) for name, items in given.items()}
    if isinstance(value, list):
        return [plain(item, f"{path}[{at}]", twice) for at, item in enumerate(value)]
    return value


def distinct(values: list[Json]) -> list[Json]:
    """Each different value once, in order; 1 and true differ, as they do in JSON."""
    if len(values) == 1:
        return values
    by_text: dict[str, Json] = {}
    for value in values:
        by_text.setdefault(json.dumps(value, sort_keys=True), value)
    return list(by_text.values())


def decode(raw: bytes, charset: str | None) -> str:
    """Text by its declared charset if that works, else UTF-8, else Latin-1; a BOM is skipped."""
    return _decoded(raw, charset)[0]


def _decoded(raw: bytes, charset: str | None) -> tuple[str, str]:
    """The text, and the charset that worked."""
    marked = next((name for mark, name in _MARKS if raw.startswith(mark)), None)
    for name in filter(None, (charset, marked, "utf-8")):
        try:
            return raw.decode(name).removeprefix("\ufeff"), name
        except UnicodeError:
            continue
    return raw.decode("latin-1"), "latin-1"


def _one_or_all(path: str, values: list[Json], twice: Twice | None) -> Json:
    different = distinct(values)
    if len(different) == 1:
        return different[0]
    if twice:
        twice(path, different)
    return different


def _read(body: bytes, content_type: str, charset: str | None) -> Pairs:
    text, worked = _decoded(body, charset)
    look = text.lstrip()[:1]
    if not look:
        raise Unreadable("empty")
    if look in "{[":
        return _object(parse_json(text))
    if look == "<":
        return _xml(text.strip())
    if boundary := _boundary(body, content_type):
        return _multipart(body, boundary, charset)
    if _CONTROL.search(text) and not _FORM_START.match(text.lstrip()):
        raise Unreadable("not_text")
    if "=" in text:
        return _form(text, worked)
    if "json" in content_type.lower():
        return _object(parse_json(text))
    raise Unreadable("not_xml" if "xml" in content_type.lower() else "not_form")


def _charset(content_type: str | None) -> str | None:
    match = _CHARSET.search(content_type or "")
    try:
        name = codecs.lookup(match[1]).name.replace("_", "-") if match else None
        if name and name not in _NO_CHARSETS:
            " ".encode(name)  # codecs that are not for text raise LookupError
            return name
    except (LookupError, ValueError):
        return None
    return None


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


# --- forms


def _form(text: str, charset: str) -> Pairs:
    # Escapes are of ASCII; what they hold is not in a charset of two bytes a character.
    fields = list(_urlencoded(text.strip("\r\n"), "utf-8" if charset.startswith(_WIDE) else charset))
    if not fields:
        raise Unreadable("not_form")
    return _nest(fields)


def _urlencoded(text: str, charset: str) -> Iterator[tuple[str, str]]:
    for part in text.split("&"):
        name, _, value = part.partition("=")
        if name:
            yield _unescape(name, charset), _unescape(value, charset)


def _unescape(text: str, charset: str) -> str:
    text = text.replace("+", " ")
    if "%" not in text:
        return text
    for name in (charset, "utf-8"):
        try:
            return unquote(text, name, "strict")
        except UnicodeError:
            continue
    return unquote(text, "latin-1")


def _boundary(body: bytes, content_type: str) -> str | None:
    """The boundary that the body really uses, or None where it is not multipart."""
    if match := _BOUNDARY.search(content_type):
        declared: str = match[1] or match[2]
        if b"--" + declared.encode("latin-1", "replace") in body:
            return declared
    first = body.lstrip().split(b"\n", 1)[0].strip()
    return first[2:].decode("latin-1") if first.startswith(b"--") and len(first) > 2 else None


def _multipart(body: bytes, boundary: str, charset: str | None) -> Pairs:
    quoted = boundary.replace("\\", "\\\\").replace('"', '\\"')
    head = f'Content-Type: multipart/form-data; boundary="{quoted}"\r\n\r\n'
    try:
        message = BytesParser(policy=_AsSent()).parsebytes(head.encode("latin-1", "replace") + body.lstrip())
        parts = [pair for part in message.walk() if (pair := _part(part, charset))]
    except RecursionError:
        raise Unreadable("too_deep") from None
    if not parts:
        raise Unreadable("not_form")
    return _nest(parts)


def _part(part: Message, charset: str | None) -> tuple[str, str] | None:
    name = _NAME.search(part.get("content-disposition", ""))
    content = part.get_payload(decode=True)
    if name is None or not isinstance(content, bytes):
        return None
    charset = _charset(part.get("content-type", "")) or charset
    written = _QUOTED_PAIR.sub(r"\1", name[1] or name[2]).encode("ascii", "surrogateescape")
    return decode(written, charset), decode(content, charset)


def _nest(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """PHP's bracketed names as objects and lists: `events[0][event]=queued`."""
    root = Pairs()
    objects: dict[tuple[str, ...], Pairs] = {(): root}
    counts: dict[tuple[str, ...], int] = {}
    taken: set[tuple[str, ...]] = set()
    for name, value in pairs:
        path = _path(name)
        if len(path) == 1:
            root.append((name, value))
            continue
        path = _numbered(path, counts, taken)
        taken.add(path)
        for depth in range(1, len(path)):
            if path[:depth] not in objects:
                objects[path[:depth]] = Pairs()
                objects[path[: depth - 1]].append((path[depth - 1], objects[path[:depth]]))
        objects[path[:-1]].append((path[-1], value))
    return Pairs((name, _listed(value)) for name, value in root)


def _path(name: str) -> tuple[str, ...]:
    match = _BRACKETED.fullmatch(name) if "[" in name else None
    if match is None:
        return (name,)
    path = (match[1], *match[2][1:-1].split("]["))
    if len(path) > MAX_DEPTH:
        raise Unreadable("too_deep")
    return path


def _numbered(
    path: tuple[str, ...], counts: dict[tuple[str, ...], int], taken: set[tuple[str, ...]]
) -> tuple[str, ...]:
    """The path with numbers for `[]`: as in PHP, but a name opens the next item only if this one has it already."""
    for at in range(1, len(path)):
        if path[at] == "":
            before, after = path[:at], path[at + 1 :]
            if (*before, str(counts.setdefault(before, 0)), *after) in taken:
                counts[before] += 1
            path = (*before, str(counts[before]), *after)
    return path


def _listed(value: Json) -> Json:
    if not isinstance(value, Pairs):
        return value
    items = [(name, _listed(item)) for name, item in value]
    if all(name.isascii() and name.isdigit() and len(name) < 10 for name, _ in items):
        return [item for _, item in sorted(items, key=lambda pair: int(pair[0]))]
    return Pairs(items)


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
