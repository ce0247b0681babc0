"""Parse urlencoded and multipart forms, with PHP's bracketed names as objects and lists.

The web framework does not parse them, since its limits would refuse or lose real posts.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from urllib.parse import unquote, unquote_to_bytes

from app.errors import Unreadable
from app.model import Json
from app.products.charsets import charset_of, decode
from app.products.duplicate_keys import MAX_DEPTH, MAX_VALUES, MORE, Pairs, Surplus

_WITH_ASCII = {"utf-8", "ascii", "latin-1", "iso8859-1", "cp1252"}  # common charsets that contain ASCII
_WIDE = ("utf-16", "utf-32")
# A form that was escaped for HTML, perhaps more than once, and sent without unescaping.
_ESCAPED_AMPERSAND = re.compile("&(?:(?:amp|#0*38|#x0*26);)+", re.I)
_MAX_BOUNDARY = 200  # RFC 2046 allows 70 characters. Python keeps the patterns made of boundaries in memory.
_BOUNDARY = re.compile(r"boundary\s*=\s*(?:\"([^\"]+)\"|([^\s;]+))", re.I)
_FOLDED = re.compile(r"\r?\n[ \t]+")
_HEADER = re.compile(r"^content-(disposition|type|transfer-encoding)[ \t]*:(.*)", re.I | re.M)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_NAME = re.compile(r";\s*name\s*=\s*(?:\"((?:[^\"\\]|\\.)+)\"|([^\s;\"]+))", re.I)
_QUOTED_PAIR = re.compile(r"\\(.)")
_BRACKETED = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])+)")
_DECODE: Mapping[str, Callable[[bytes], bytes]] = {
    "base64": binascii.a2b_base64,
    "quoted-printable": binascii.a2b_qp,
}


def read_urlencoded(text: str, charset: str, names: Container[str]) -> Pairs:
    """Return the first `MAX_VALUES` fields, and of the others the first of each known name.

    Raises `Unreadable`: not_form or too_deep.
    """
    # Percent escapes are ASCII, so the escaped bytes are not in a charset with two or four bytes a character.
    charset = "utf-8" if charset.startswith(_WIDE) else charset
    fields: list[tuple[str, str]] = []
    seen: set[str] = set()
    beyond = 0
    for part in _ESCAPED_AMPERSAND.sub("&", text.strip("\r\n")).split("&"):
        name, _, value = part.partition("=")
        folded = name.casefold()
        if len(fields) >= MAX_VALUES and (folded in seen or folded not in names):
            beyond += 1
        elif name:
            seen.add(folded)
            fields.append((unescape(name, charset), unescape(value, charset)))
    if not fields:
        raise Unreadable("not_form")
    return Pairs([*_nest(fields), (MORE, Surplus(beyond))]) if beyond else _nest(fields)


def unescape(text: str, charset: str) -> str:
    """Return the text with a form's percent escapes and pluses decoded."""
    if "%" not in text and "+" not in text:
        return text
    text = text.replace("+", " ")
    for name in (charset, "utf-8"):
        try:
            if name in _WITH_ASCII and text.isascii():
                return unquote_to_bytes(text).decode(name)
            return unquote(text, name, "strict")
        except UnicodeError:
            continue
    return unquote(text, "latin-1")


def boundary_of(body: bytes, content_type: str) -> str | None:
    """Return the boundary that the body really uses, or None if it is not multipart."""
    if match := _BOUNDARY.search(content_type):
        declared: str = match[1] or match[2]
        if len(declared) <= _MAX_BOUNDARY and b"--" + declared.encode("latin-1", "replace") in body:
            return declared
    if body.lstrip()[:2] != b"--":
        return None
    first = body.lstrip().split(b"\n", 1)[0].strip()
    return first[2:].decode("latin-1") if 2 < len(first) <= 2 + _MAX_BOUNDARY else None


def read_multipart(body: bytes, boundary: str, charset: str | None) -> Pairs:
    """Return the fields. `charset` applies to parts that declare none. Raises `Unreadable`: not_form or too_deep."""
    fields = [field for part in _parts(body, boundary) if (field := _field(part, charset))]
    if not fields:
        raise Unreadable("not_form")
    return _nest(fields)


def _parts(body: bytes, boundary: str) -> Iterator[bytes]:
    """Yield the parts, each from the end of its boundary line to the next boundary; without preamble and epilogue."""
    escaped = re.escape(boundary.encode("latin-1", "replace"))
    pieces = re.split(rb"(?:^|\r?\n)--" + escaped + rb"(--)?[ \t]*(?=\r?\n|$)", body.lstrip())
    for closing, part in zip(pieces[1::2], pieces[2::2], strict=True):
        if closing:
            return
        yield part


def _field(part: bytes, charset: str | None) -> tuple[str, str] | None:
    head, *content = _BLANK_LINE.split(part, 1)
    headers: dict[str, str] = {}
    for header, value in _HEADER.findall(_FOLDED.sub(" ", head.decode("latin-1"))):
        headers.setdefault(header.lower(), value.strip())
    name = _NAME.search(headers.get("disposition", ""))
    if name is None:
        return None
    charset = charset_of(headers.get("type", "")) or charset
    raw_name = _QUOTED_PAIR.sub(r"\1", name[1] or name[2]).encode("latin-1")
    return decode(raw_name, charset), decode(
        _decoded(b"".join(content), headers.get("transfer-encoding", "")), charset
    )


def _decoded(content: bytes, encoding: str) -> bytes:
    try:
        return _DECODE.get(encoding.lower(), bytes)(content)
    except binascii.Error:
        return content


def _nest(pairs: Sequence[tuple[str, str]]) -> Pairs:
    """Turn PHP's bracketed names into objects and lists: `events[0][event]=queued`."""
    if not any("[" in name for name, _ in pairs):
        return Pairs(pairs)
    root = Pairs()
    objects: dict[tuple[str, ...], Pairs] = {(): root}
    counts: dict[tuple[str, ...], int] = {}
    taken: set[tuple[str, ...]] = set()
    left = MAX_VALUES
    for name, value in pairs:
        path = _path(name)
        left -= len(path)
        if left < 0:  # nesting every level of every field would take too long
            path = (name,)
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
    """Return the path with numbers for `[]`. Unlike PHP, a new item begins only if the current one has the name."""
    for index in range(1, len(path)):
        if path[index] == "":
            before, after = path[:index], path[index + 1 :]
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
