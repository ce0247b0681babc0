"""Forms of both kinds, with PHP's bracketed names as objects and lists.

They are parsed here and not by the web framework, whose limits refuse or swallow real posts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from email.message import Message
from email.parser import BytesParser
from email.policy import Compat32
from urllib.parse import unquote, unquote_to_bytes

from app.errors import Unreadable
from app.model import Json
from app.products.charsets import charset_of, decode
from app.products.pairs import MAX_DEPTH, Pairs

_WITH_ASCII = {"utf-8", "ascii", "latin-1", "iso8859-1", "cp1252"}  # the usual ones whose first half it is
_WIDE = ("utf-16", "utf-32")
_BOUNDARY = re.compile(r"boundary\s*=\s*(?:\"([^\"]+)\"|([^\s;]+))", re.I)
_NAME = re.compile(r";\s*name\s*=\s*(?:\"((?:[^\"\\]|\\.)+)\"|([^\s;\"]+))", re.I)
_QUOTED_PAIR = re.compile(r"\\(.)")
_BRACKETED = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])+)")


class _AsSent(Compat32):
    """Headers whose bytes can be had back; the parser's own way replaces what is not ASCII."""

    def header_fetch_parse(self, name: str, value: str) -> str:
        return value


def read_urlencoded(text: str, charset: str) -> Pairs:
    """Raises `Unreadable`: not_form or too_deep."""
    # Escapes are of ASCII; what they hold is not in a charset of two bytes a character.
    fields = list(_urlencoded(text.strip("\r\n"), "utf-8" if charset.startswith(_WIDE) else charset))
    if not fields:
        raise Unreadable("not_form")
    return _nest(fields)


def _urlencoded(text: str, charset: str) -> Iterator[tuple[str, str]]:
    for part in text.split("&"):
        name, _, value = part.partition("=")
        if name:
            yield (
                _unescape(name, charset) if "%" in name or "+" in name else name,
                _unescape(value, charset) if "%" in value or "+" in value else value,
            )


def _unescape(text: str, charset: str) -> str:
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
    """The boundary that the body really uses, or None where it is not multipart."""
    if match := _BOUNDARY.search(content_type):
        declared: str = match[1] or match[2]
        if b"--" + declared.encode("latin-1", "replace") in body:
            return declared
    if body.lstrip()[:2] != b"--":
        return None
    first = body.lstrip().split(b"\n", 1)[0].strip()
    return first[2:].decode("latin-1") if len(first) > 2 else None


def read_multipart(body: bytes, boundary: str, charset: str | None) -> Pairs:
    """`charset` is of the parts that declare none. Raises `Unreadable`: not_form or too_deep."""
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
    charset = charset_of(part.get("content-type", "")) or charset
    written = _QUOTED_PAIR.sub(r"\1", name[1] or name[2]).encode("ascii", "surrogateescape")
    return decode(written, charset), decode(content, charset)


def _nest(pairs: Sequence[tuple[str, str]]) -> Pairs:
    """PHP's bracketed names as objects and lists: `events[0][event]=queued`."""
    if not any("[" in name for name, _ in pairs):
        return Pairs(pairs)
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
